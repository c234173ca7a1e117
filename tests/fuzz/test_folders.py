"""Folders of saved models and runs, and files of weights, damaged in any way."""

from __future__ import annotations

import hashlib
import json
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, strategies as st

import mvcore
from mvcore import runs
from mvcore.data.schema import ModalitySpec, Schema
from mvcore.errors import DataError
from mvcore.testing.fuzz import damages, done_or_refused, fuzzed, mutations, nasty_texts, plain_values

SCHEMA = Schema((ModalitySpec(name="a", shape=(3,)), ModalitySpec(name="b", shape=(2,), likelihood="bernoulli")))
SMALL = {f"modalities.{m}.{part}.hidden": [4] for m in ("a", "b") for part in ("encoder", "decoder")}
TOML = """
[data]
use = "miniacc"
train = 0.8
validation = 0.1
[model]
use = "multimodal"
latent_dim = 20
[model.loss]
beta = 2.5
[model.modalities.rna.encoder]
hidden = [64, 64]
[training]
epochs = 100
schedule = "one_cycle"
"""
KEYS = [
    "data.use", "data.train", "data.seed", "model.use", "model.latent_dim", "model.loss", "model", "training.lr",
    "training.trackers", "training", "x", "",
]  # fmt: skip


@pytest.fixture(scope="module")
def content() -> dict[str, bytes]:
    """The files of a saved model."""
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        model = mvcore.create("multimodal", SCHEMA, latent_dim=2, **SMALL)  # type: ignore[arg-type]
        saved = mvcore.save(model, Path(folder) / "model")
        return {file.name: file.read_bytes() for file in saved.iterdir()}


@contextmanager
def written(files: dict[str, bytes]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        for name, data in files.items():
            (Path(folder) / name).write_bytes(data)
        yield Path(folder)


def signed(files: dict[str, bytes]) -> dict[str, bytes]:
    """The files with the digest of the weights that they have."""
    config = json.loads(files["config.json"])
    config["weights"]["sha256"] = hashlib.sha256(files["model.safetensors"]).hexdigest()
    return {**files, "config.json": json.dumps(config).encode()}


def loads(files: dict[str, bytes]) -> bool:
    with written(files) as folder:
        return done_or_refused(lambda: mvcore.load(folder))


@fuzzed(150)
@given(data=st.data())
def test_a_config_with_other_values(content: dict[str, bytes], data: st.DataObject) -> None:
    config = data.draw(mutations(json.loads(content["config.json"])))
    loads({**content, "config.json": json.dumps(config).encode()})


@fuzzed(100)
@given(data=st.data())
def test_a_config_with_other_bytes(content: dict[str, bytes], data: st.DataObject) -> None:
    loads({**content, "config.json": data.draw(damages(content["config.json"]))})


@fuzzed(100)
@given(data=st.data())
def test_weights_with_other_bytes_are_refused_unless_they_are_the_same(
    content: dict[str, bytes], data: st.DataObject
) -> None:
    weights = data.draw(damages(content["model.safetensors"]))
    assert loads({**content, "model.safetensors": weights}) == (weights == content["model.safetensors"])


@fuzzed(100)
@given(data=st.data())
def test_weights_with_other_bytes_and_their_digest(content: dict[str, bytes], data: st.DataObject) -> None:
    loads(signed({**content, "model.safetensors": data.draw(damages(content["model.safetensors"]))}))


def header_of(weights: bytes) -> tuple[Any, bytes]:
    length = struct.unpack("<Q", weights[:8])[0]
    return json.loads(weights[8 : 8 + length]), weights[8 + length :]


@fuzzed(150)
@given(data=st.data())
def test_weights_with_another_header_and_their_digest(content: dict[str, bytes], data: st.DataObject) -> None:
    table, values = header_of(content["model.safetensors"])
    text = json.dumps(data.draw(mutations(table))).encode()
    loads(signed({**content, "model.safetensors": struct.pack("<Q", len(text)) + text + values}))


@fuzzed(60)
@given(files=st.dictionaries(st.sampled_from(["config.json", "model.safetensors"]), st.binary(max_size=200)))
def test_folders_of_anything(files: dict[str, bytes]) -> None:
    assert not loads(files)


@fuzzed(60)
@given(path=st.one_of(nasty_texts, plain_values, st.binary(max_size=5)))
def test_paths_of_anything(path: Any) -> None:
    assert not done_or_refused(lambda: mvcore.load(path))


def reads(text: bytes, act: Callable[[Path], object]) -> bool:
    with written({"c.toml": text}) as folder:
        return done_or_refused(lambda: act(folder / "c.toml"))


def prepared(path: Path) -> None:
    """All that a training does with its file before the first step."""
    from mvcore import config as configs
    from mvcore.build import create_from
    from mvcore.options import TrainingConfig

    tables = runs.read(path)
    configs.structure_as(TrainingConfig, tables.get("training", {}))
    configs.structure_as(runs.DataTable, tables["data"])
    fields = {name: value for name, value in tables["model"].items() if name != "use"}
    with torch.device("meta"):
        create_from(tables["model"].get("use", "multimodal"), SCHEMA, fields)


@fuzzed(150)
@given(data=st.data())
def test_toml_with_other_bytes(data: st.DataObject) -> None:
    reads(data.draw(damages(TOML.encode())), prepared)


@fuzzed(100)
@given(key=st.sampled_from(KEYS), text=st.one_of(nasty_texts, plain_values.map(str)))
def test_values_of_the_command_line(key: str, text: str) -> None:
    def act(path: Path) -> None:
        runs.read(path, [f"{key}={text}"])

    reads(TOML.encode(), act)


@fuzzed(100)
@given(data=st.data())
def test_runs_with_another_config(data: st.DataObject) -> None:
    run = {"data": {"folder": "nowhere", "train": 0.8}, "model": {"use": "multimodal"}, "training": {"epochs": 1}}
    config = data.draw(mutations(run))
    with written({"config.json": json.dumps(config).encode()}) as folder:
        done_or_refused(lambda: runs.data_of(folder))


def test_the_undamaged_are_read(content: dict[str, bytes]) -> None:
    assert loads(content)
    assert loads(signed(content))
    assert reads(TOML.replace("rna", "a").encode(), prepared)
    with (
        pytest.raises(DataError, match="no folder"),
        written({"config.json": b'{"data": {"folder": "x"}, "model": {}}'}) as f,
    ):
        runs.data_of(f)
