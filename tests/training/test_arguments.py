"""What ``fit`` is called with: every argument that does not fit is one ConfigError that names it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accelerate import Accelerator

import mvcore
from mvcore.config import structure_as
from mvcore.data.dataset import MultimodalDataset
from mvcore.errors import ConfigError
from mvcore.training.hooks import hookimpl


def fit(**options: Any) -> mvcore.Run:
    rng = np.random.default_rng(0)
    arrays = {"a": rng.normal(size=(12, 2)), "b": rng.normal(size=(12, 3))}
    data = MultimodalDataset(arrays, {"b": np.arange(12) % 3 > 0})
    chosen: dict[str, Any] = {"epochs": 1, "batch_size": 6, "progress": False, "accelerator": Accelerator(cpu=True)}
    return mvcore.fit(mvcore.create("multimodal", data, latent_dim=2), data, **{**chosen, **options})


@pytest.mark.parametrize(
    ("name", "meant"),
    [("learning_rate", "lr"), ("epoch", "epochs"), ("batchsize", "batch_size"), ("wd", "weight_decay")],
)
def test_an_unknown_option_is_named_with_the_one_that_was_meant(name: str, meant: str) -> None:
    for ask in (lambda: fit(**{name: 1}), lambda: structure_as(mvcore.TrainingConfig, {name: 1})):
        with pytest.raises(ConfigError, match=f"{name}: unknown key, did you mean '{meant}'"):
            ask()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("accumulate", 10**6),
        ("accelerator", 5),
        ("checkpoint", "a\0b"),
        ("checkpoint", 5),
        ("trackers", "wandb"),
        ("resume", "no"),
        ("fork", 1),
        ("progress", "no"),
        ("hooks", None),
    ],
)
def test_an_argument_of_another_kind_is_named(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{name}(:| must)"):
        fit(**{name: value})


def test_numbers_of_numpy_leave_a_checkpoint_as_those_of_python_do(tmp_path: Path) -> None:
    history = fit(epochs=np.int64(2), lr=np.float64(1e-3), checkpoint=tmp_path).history
    assert fit(epochs=2, lr=1e-3, checkpoint=tmp_path, resume=True).history == history


class Half:
    @hookimpl
    def mvcore_epoch_end(self) -> None: ...

    def mvcore_step_end(self) -> None: ...


def test_a_callback_of_which_a_part_is_not_marked_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"mvcore_step_end: it is not marked"):
        fit(callbacks=[Half()])


def test_the_extra_of_each_tracker_is_there_to_be_installed() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert {"tensorboard", "mlflow", "wandb"} <= set(project["optional-dependencies"])
