"""Processes that a launcher starts train together, or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accelerate import Accelerator

import mvcore
from mvcore.data.dataset import MultimodalDataset
from mvcore.errors import TrainingError


def toy() -> MultimodalDataset:
    rng = np.random.default_rng(0)
    return MultimodalDataset({"a": rng.normal(size=(8, 3)), "b": rng.normal(size=(8, 2))}, {"b": np.arange(8) % 3 > 0})


def fit(**options: Any) -> mvcore.Run:
    small = {f"modalities.{m}.{part}.hidden": [4] for m in "ab" for part in ("encoder", "decoder")}
    model = mvcore.create("multimodal", toy(), latent_dim=2, **small)
    return mvcore.fit(model, toy(), epochs=1, batch_size=4, progress=False, **options)


@pytest.mark.parametrize("given", [True, False])
def test_processes_that_are_not_joined_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: bool
) -> None:
    alone = Accelerator(cpu=True)  # made before, as by a training of this process alone
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(TrainingError, match=r"2 processes were launched, but accelerate joined 1.*cpu=True"):
        fit(checkpoint=tmp_path / "run", **({"accelerator": alone} if given else {}))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("size", ["two", "0", "-1", "1.5", "²"])
def test_a_number_of_processes_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, size: str) -> None:
    alone = Accelerator(cpu=True)
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(TrainingError, match=f"WORLD_SIZE is {size!r}; a launcher sets it to 1 or more"):
        fit(accelerator=alone)


@pytest.mark.parametrize("size", ["", "1"])
def test_one_process_trains_alone(monkeypatch: pytest.MonkeyPatch, size: str) -> None:
    alone = Accelerator(cpu=True)
    monkeypatch.setenv("WORLD_SIZE", size)
    assert len(fit(accelerator=alone).history) == 1


CONFIG = """
[data]
use = "miniacc"
train = 0.5
[model]
use = "multimodal"
latent_dim = 2
[training]
epochs = 2
batch_size = 20
"""


@pytest.mark.slow
def test_the_command_under_torchrun_trains_one_model(tmp_path: Path, torchrun: Callable[..., str]) -> None:
    (tmp_path / "c.toml").write_text(CONFIG)
    torchrun("-m", "mvcore.cli", "train", "c.toml", "--out", "run", "--quiet")
    assert len(json.loads((tmp_path / "run/history.json").read_text())) == 2
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "config.json",
        "history.json",
        "model",
        "checkpoint",
    }
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert mvcore.load(tmp_path / "run/model").schema.names
