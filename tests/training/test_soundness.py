"""Nothing unsound is saved, hooks stop and fork trainings, and an interrupted one loses no step."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import mvcore
from mvcore.errors import CheckpointError, ConfigError, TrainingError
from mvcore.models.base import Model
from mvcore.training.checkpoint import weights
from mvcore.training.hooks import StopTraining, hookimpl

Fit = Callable[..., mvcore.Run]
Make = Callable[..., Model]


@pytest.mark.parametrize("options", [{"lr": 1e30}, {"lr": 1e20, "weight_decay": 1e25}, {"lr": 1e30, "batch_size": 7}])
def test_weights_that_the_last_step_spoilt_are_told_and_never_saved(
    fit: Fit, small_model: Make, tmp_path: Path, options: dict[str, Any]
) -> None:
    """One step: the loss before it is finite, the weights that it leaves give none."""
    model = small_model()
    with pytest.raises(TrainingError, match=r"not finite.*Modalities: (a|b|a, b)\.|not finite.*step"):
        fit(model, epochs=1, **{"batch_size": 40, **options}, checkpoint=tmp_path)
    assert all(value.isfinite().all() for value in model.state_dict().values())
    assert model.log_likelihood(fit(small_model(), epochs=1).model.fitting(rows_of(fit)), 2).isfinite().all()
    assert not (tmp_path / "checkpoint.pt").exists()


def rows_of(fit: Fit) -> mvcore.Batch:
    return mvcore.Batch.from_dense({"a": torch.zeros(2, 3), "b": torch.zeros(2, 4)})


class Spoil:
    """Makes a weight NaN at a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    @hookimpl
    def mvcore_step_end(self, model: Model, step: int) -> None:
        if step == self.step:
            next(model.decoders["b"].parameters()).data.fill_(torch.nan)


def test_the_last_good_checkpoint_is_kept_and_gone_on_from(fit: Fit, small_model: Make, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"not finite in epoch 2.*Modalities: b"):
        fit(small_model(), epochs=4, checkpoint=tmp_path, callbacks=[Spoil(8)])
    kept = weights(tmp_path)
    assert all(value.isfinite().all() for value in kept.values())
    after = fit(small_model(), epochs=4, checkpoint=tmp_path, resume=True)
    assert after.history == fit(small_model(), epochs=4).history


def test_a_validation_loss_that_is_not_finite_is_named(fit: Fit, small_model: Make, data: Any) -> None:
    model = small_model(modality_dropout=0.0)
    batch = data(20, 1).batch()
    far = batch.with_values({"a": batch.x["a"], "b": batch.x["b"] * 1e25}, batch.observed, {})  # its square is infinite
    broken = mvcore.MultimodalDataset.from_batch(data(20, 1).schema, far)
    with pytest.raises(
        TrainingError, match=r"The validation loss is not finite in epoch 0.*reconstruction/b.*Modalities: (a, )?b"
    ):
        fit(model, epochs=2, validation=broken)


class Diary:
    def __init__(self) -> None:
        self.lines: list[Any] = []

    @hookimpl
    def mvcore_epoch_end(self, row: dict[str, Any]) -> None:
        self.lines.append(("epoch", row["epoch"]))

    @hookimpl
    def mvcore_checkpoint(self, model: Model, row: dict[str, Any] | None, folder: Path) -> None:
        assert all(torch.equal(value, model.state_dict()[name]) for name, value in weights(folder).items())
        self.lines.append(("checkpoint", None if row is None else row["epoch"]))


def test_a_hook_is_called_after_each_checkpoint_with_what_it_holds(fit: Fit, tmp_path: Path) -> None:
    diary = Diary()
    fit(epochs=3, checkpoint=tmp_path, callbacks=[diary])
    assert diary.lines == [line for epoch in range(3) for line in (("epoch", epoch), ("checkpoint", epoch))]


class StopAt:
    def __init__(self, step: int) -> None:
        self.step = step

    @hookimpl
    def mvcore_step_end(self, step: int) -> None:
        if step == self.step:
            raise StopTraining


@pytest.mark.parametrize("step", [1, 3, 8])
@pytest.mark.parametrize("options", [{}, {"checkpoint_epochs": 3}, {"schedule": "one_cycle"}])
def test_a_hook_stops_a_training_which_goes_on_as_if_it_had_not(
    fit: Fit, small_model: Make, tmp_path: Path, step: int, options: dict[str, Any]
) -> None:
    stopped = fit(small_model(), checkpoint=tmp_path, callbacks=[StopAt(step)], **options)
    assert stopped.stopped
    assert len(stopped.history) == step // 3  # an epoch has three steps
    whole, after = fit(small_model(), **options), fit(small_model(), checkpoint=tmp_path, resume=True, **options)
    assert not after.stopped
    assert after.history == whole.history
    assert all(torch.equal(v, whole.model.state_dict()[k]) for k, v in after.model.state_dict().items())


def test_a_fork_goes_on_with_another_learning_rate_and_nothing_else_does(
    fit: Fit, small_model: Make, tmp_path: Path
) -> None:
    fit(small_model(), checkpoint=tmp_path, callbacks=[StopAt(6)])
    with pytest.raises(CheckpointError, match="lr"):
        fit(small_model(), checkpoint=tmp_path, resume=True, lr=1e-9)
    before = weights(tmp_path)
    forked = fit(small_model(), checkpoint=tmp_path, fork=True, lr=1e-9)
    assert len(forked.history) == 4
    moved = max(
        float((v - before[k]).abs().max()) for k, v in forked.model.state_dict().items() if v.dtype == torch.float
    )
    assert 0 < moved < 1e-7  # six steps of at most about 1e-9 each
    for schedule in ("one_cycle", "cosine"):
        with pytest.raises(ConfigError, match="fork"):
            fit(small_model(), checkpoint=tmp_path, fork=True, schedule=schedule)


CONFIG = """
[data]
use = "miniacc"
[model]
use = "multimodal"
latent_dim = 2
[training]
epochs = 100000
batch_size = 20
checkpoint_epochs = 100000
"""


def heed_interrupts() -> None:
    """What a shell starts in the background ignores them, and so would what that starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def ignore_interrupts() -> None:
    """As ``nohup mvcore train … &`` does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@pytest.mark.parametrize(
    ("sent", "code", "begin"),
    [
        (signal.SIGINT, 130, heed_interrupts),
        (signal.SIGTERM, 143, heed_interrupts),
        (signal.SIGTERM, 143, ignore_interrupts),
    ],
)
def test_a_command_that_is_interrupted_saves_and_says_how_to_go_on(
    tmp_path: Path, sent: int, code: int, begin: Callable[[], None]
) -> None:
    (tmp_path / "c.toml").write_text(CONFIG)
    command = [sys.executable, "-m", "mvcore", "train", "c.toml", "--out", "run", "--quiet"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=begin
    ) as process:
        for _ in range(600):
            if (tmp_path / "run/checkpoint/.lock").exists():
                break
            time.sleep(0.1)
        time.sleep(1.5)  # some steps into the training
        process.send_signal(sent)
        try:
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == code, err
    assert "same command" in err
    assert "Traceback" not in err
    assert (tmp_path / "run/checkpoint/checkpoint.pt").is_file()
