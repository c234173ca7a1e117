"""Checkpoints, damaged in any way, and such as no training wrote: a training goes on from one, or says why not."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor

import mvcore
from mvcore.data import MultimodalDataset
from mvcore.testing.fuzz import (
    damages,
    done_or_refused,
    fuzzed,
    nasty_texts,
    places,
    plain_values,
    removed,
    renamed,
    replaced,
)
from mvcore.testing.interruption import Stop, StopAfter
from mvcore.training import checkpoint, weights
from mvcore.training.archive import read_archive, write_archive

ROWS = np.random.default_rng(0).normal(size=(24, 5))
DATA = MultimodalDataset({"a": ROWS[:, :3], "b": ROWS[:, 3:]}, {"b": np.arange(24) % 3 > 0})
SMALL = {f"modalities.{m}.{part}.hidden": [4] for m in "ab" for part in ("encoder", "decoder")}


def trained(folder: Path, *, resume: bool, **more: Any) -> mvcore.Run:
    torch.manual_seed(0)
    model = mvcore.create("multimodal", DATA, latent_dim=2, **SMALL)  # type: ignore[arg-type]
    return mvcore.fit(
        model, DATA, validation=DATA, epochs=2, batch_size=8, lr=1e-2, schedule="plateau", checkpoint=folder,
        checkpoint_steps=1, progress=False, resume=resume, hooks=False, **more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def content() -> bytes:
    """A checkpoint in the midst of the second epoch."""
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as folder:
        with pytest.raises(Stop):
            trained(Path(folder), resume=False, callbacks=[StopAfter(4)])
        return (Path(folder) / checkpoint.FILE).read_bytes()


def goes_on(content: bytes) -> bool:
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as folder:
        (Path(folder) / checkpoint.FILE).write_bytes(content)
        read = done_or_refused(lambda: weights(folder))
        done = done_or_refused(lambda: trained(Path(folder), resume=True))
        assert read or not done
        return done


@pytest.fixture(scope="module")
def state(content: bytes) -> Any:
    """What it holds."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "file"
        file.write_bytes(content)
        return listed(read_archive(file))


@fuzzed(30)
@given(data=st.data())
def test_a_checkpoint_with_other_bytes_is_refused_unless_they_are_the_same(content: bytes, data: st.DataObject) -> None:
    other = data.draw(damages(content))
    assert goes_on(other) == (other == content)


@fuzzed(60)
@given(data=st.data())
def test_a_checkpoint_that_no_training_wrote(state: Any, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from([path for path in places(state) if path]))
    how = data.draw(st.sampled_from(["replace", "remove", "rename"]))
    if how == "replace":
        other = replaced(state, path, data.draw(plain_values))
    else:
        other = removed(state, path) if how == "remove" else renamed(state, path, data.draw(nasty_texts))
    goes_on(signed(other))


@fuzzed(60)
@given(data=st.data())
def test_a_checkpoint_with_tensors_of_other_shapes_and_kinds(state: Any, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from([path for path in places(state) if isinstance(part(state, path), Tensor)]))
    kind = data.draw(
        st.sampled_from([torch.float32, torch.float64, torch.int64, torch.bool, torch.complex64, torch.uint8])
    )
    value = data.draw(st.sampled_from([0.0, 1.0, 3e38, float("nan"), float("inf"), -1.0]))
    shape = data.draw(st.one_of(st.just(part(state, path).shape), st.lists(st.integers(0, 3), max_size=3)))
    other = torch.full(tuple(shape), value if kind.is_floating_point else 1.0).to(kind)
    goes_on(signed(replaced(state, path, other)))


def test_the_checkpoint_that_is_changed_is_a_whole_one(content: bytes, state: Any) -> None:
    assert goes_on(content)
    assert goes_on(signed(state))


def signed(state: Any) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "file"
        with file.open("wb+") as stream:
            write_archive(state, stream)
        return file.read_bytes()


def listed(value: Any) -> Any:
    """Tuples as lists, which ``places`` looks into."""
    if isinstance(value, Mapping):
        return {key: listed(part) for key, part in value.items()}
    return [listed(part) for part in value] if isinstance(value, (list, tuple)) else value


def part(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value
