"""Optimizers by name, early ends by any metric, more epochs for a finished training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mvcore
from mvcore.errors import CheckpointError, ConfigError, DataError
from mvcore.options import TrainingConfig
from mvcore.training.optimizers import make_optimizer
from mvcore.training.state import Progress

QUIET: dict[str, Any] = {"progress": False, "hooks": False, "batch_size": 16}


def rows(n: int = 60, seed: int = 0) -> mvcore.MultimodalDataset:
    rng = np.random.default_rng(seed)
    z, w = rng.normal(size=(n, 2)), np.random.default_rng(9).normal(size=(2, 9))
    x = z @ w + 0.1 * rng.normal(size=(n, 9))
    masks = {"a": np.arange(n) % 4 != 0, "b": np.arange(n) % 4 != 1}
    return mvcore.MultimodalDataset({"a": x[:, :5], "b": x[:, 5:]}, masks, labels=(z[:, 0] > 0).astype(int))


def model(**fields: Any) -> mvcore.Model:
    small = {m: {"encoder": {"hidden": [8]}, "decoder": {"hidden": [8]}} for m in "ab"}
    return mvcore.create("multimodal", rows(), seed=1, latent_dim=2, modalities=small, **fields)


def same(one: mvcore.Run, other: mvcore.Run) -> bool:
    weights = other.model.state_dict()
    return one.history == other.history and all(torch.equal(v, weights[k]) for k, v in one.model.state_dict().items())


@pytest.mark.parametrize("name", ["adam", "adamw", "nadam", "radam", "rmsprop", "sgd"])
@pytest.mark.parametrize("schedule", ["constant", "one_cycle"])
def test_each_optimizer_lowers_the_loss(name: Any, schedule: Any) -> None:
    run = mvcore.fit(model(), rows(), optimizer=name, schedule=schedule, epochs=15, lr=1e-2, clip_norm=5.0, **QUIET)
    assert run.history[-1]["loss"] < run.history[0]["loss"]


def test_the_first_step_of_each_is_the_one_by_hand() -> None:
    """With gradient 4: SGD takes 4 lr; RMSprop 4 lr/√(.01·16) = 10 lr; Adam lr, RAdam, at first without scale, 4 lr."""
    steps = {"sgd": 4.0, "rmsprop": 10.0, "adam": 1.0, "adamw": 1.0, "radam": 4.0}
    for name, size in steps.items():
        weight = torch.nn.Parameter(torch.tensor([2.0]))
        optimizer = make_optimizer([weight], TrainingConfig(optimizer=name, lr=0.01))  # type: ignore[arg-type]
        weight.grad = torch.tensor([4.0])
        optimizer.step()
        assert 2 - weight.item() == pytest.approx(0.01 * size, rel=1e-4), name


def test_a_name_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigError, match="optimizer"):
        mvcore.fit(model(), rows(), optimizer="adan", epochs=1, **QUIET)  # type: ignore[arg-type]


def test_waiting_counts_what_is_better_by_less_than_the_tolerance_and_the_best_epoch_is_kept_all_the_same() -> None:
    from mvcore.training.loop import Loop

    class Stub:
        judge = Loop._judge

        def __init__(self) -> None:
            self.at, self.options = Progress(), TrainingConfig(tolerance=0.5)
            self.model = torch.nn.Linear(1, 1)

    stub, waited = Stub(), []
    for loss in (10.0, 9.6, 9.4, 9.0, 9.2):  # 9.6 is within .5 of 10; 9.4 is not; 9.0 and 9.2 are of 9.4
        stub.judge(loss)  # type: ignore[arg-type]
        waited.append(stub.at.waited)
    assert waited == [0, 1, 0, 1, 2]
    assert stub.at.best == 9.0


def test_a_tolerance_ends_a_training_that_hardly_gets_better() -> None:
    patient = {"validation": rows(40, 1), "patience": 2, "epochs": 30}
    short = mvcore.fit(model(), rows(), tolerance=1e6, **patient, **QUIET)
    assert len(short.history) == 3  # the first is better than none; two more are not by a million


def test_the_best_epoch_is_that_of_the_metric_and_the_patience_waits_for_it() -> None:
    held = rows(40, 1)
    run = mvcore.fit(model(), rows(), validation=held, monitor="imputation/a", patience=4, epochs=25, lr=1e-2, **QUIET)
    scores = [row["validation_imputation/a"] for row in run.history]
    best = int(np.argmax(scores))
    assert len(scores) in (25, best + 5)
    final = mvcore.evaluate(run.model, held, train=rows(), metrics=["imputation"]).values["imputation/a"]
    assert final == pytest.approx(scores[best], abs=1e-6)
    least = mvcore.fit(model(), rows(), validation=held, monitor="imputation/a", mode="min", epochs=5, lr=1e-2, **QUIET)
    worst = mvcore.evaluate(least.model, held, train=rows(), metrics=["imputation"]).values["imputation/a"]
    assert worst == pytest.approx(min(row["validation_imputation/a"] for row in least.history), abs=1e-6)


def test_a_metric_that_is_watched_shows_no_bar_of_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    mvcore.fit(model(), rows(), validation=rows(40, seed=1), monitor="log_likelihood", epochs=1, **QUIET)
    assert "".join(capfd.readouterr()) == ""


def test_a_metric_changes_no_step() -> None:
    held = rows(40, 1)
    plain = mvcore.fit(model(), rows(), validation=held, epochs=3, **QUIET)
    watched = mvcore.fit(model(), rows(), validation=held, monitor="log_likelihood", epochs=3, **QUIET)
    assert [row["loss"] for row in watched.history] == [row["loss"] for row in plain.history]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"monitor": "imputation/c", "validation": True}, ConfigError, "no value 'imputation/c', did you mean"),
        ({"monitor": "loss", "validation": True}, mvcore.MvcoreError, "loss"),
        ({"monitor": "imputation/a"}, DataError, "needs validation rows"),
        ({"mode": "best", "validation": True}, ConfigError, "mode"),
        ({"tolerance": -1.0, "validation": True}, ConfigError, "tolerance"),
    ],
)
def test_what_cannot_be_waited_for_is_refused_before_the_training(options: Any, error: Any, message: str) -> None:
    if options.pop("validation", False):
        options = {**options, "validation": rows(40, 1)}
    with pytest.raises(error, match=message):
        mvcore.fit(model(), rows(), epochs=1, **options, **QUIET)


@pytest.mark.parametrize("validated", [False, True])
def test_more_epochs_make_of_a_finished_training_the_one_that_had_them_from_the_start(
    tmp_path: Path, validated: bool
) -> None:
    more: dict[str, Any] = {"schedule": "constant", "lr": 3e-2, "checkpoint": tmp_path / "run"}
    more |= {"validation": rows(40, 1)} if validated else {}
    whole = mvcore.fit(model(), rows(), epochs=7, **{**more, "checkpoint": tmp_path / "whole"}, **QUIET)
    mvcore.fit(model(), rows(), epochs=3, **more, **QUIET)
    assert same(mvcore.fit(model(), rows(), epochs=7, fork=True, **more, **QUIET), whole)
    again = mvcore.fit(model(), rows(), epochs=7, resume=True, **more, **QUIET)  # it is finished now
    assert same(again, whole)


def test_a_planned_schedule_goes_on_with_another(tmp_path: Path) -> None:
    first = mvcore.fit(model(), rows(), epochs=3, schedule="one_cycle", lr=1e-2, checkpoint=tmp_path, **QUIET)
    loss = first.history[-1]["loss"]
    more = mvcore.fit(model(), rows(), epochs=20, schedule="constant", lr=1e-2, checkpoint=tmp_path, fork=True, **QUIET)
    assert len(more.history) == 20
    assert more.history[-1]["loss"] < loss  # at a rate that had fallen to 4e-8 it would stand still


def test_one_that_ended_by_its_patience_goes_on_and_waits_anew(tmp_path: Path) -> None:
    options = {
        "validation": rows(40, 1),
        "tolerance": 1e6,
        "patience": 2,
        "checkpoint": tmp_path,
        "schedule": "constant",
    }
    assert len(mvcore.fit(model(), rows(), epochs=10, **options, **QUIET).history) == 3
    assert len(mvcore.fit(model(), rows(), epochs=10, resume=True, **options, **QUIET).history) == 3
    assert len(mvcore.fit(model(), rows(), epochs=12, fork=True, **options, **QUIET).history) == 5


def test_fewer_epochs_are_refused_and_more_without_a_fork(tmp_path: Path) -> None:
    options: dict[str, Any] = {"checkpoint": tmp_path, "schedule": "constant"}
    mvcore.fit(model(), rows(), epochs=3, **options, **QUIET)
    with pytest.raises(CheckpointError, match=r"options\.epochs: 3, 2"):
        mvcore.fit(model(), rows(), epochs=2, fork=True, **options, **QUIET)
    with pytest.raises(CheckpointError, match=r"options\.epochs: 3, 5"):
        mvcore.fit(model(), rows(), epochs=5, resume=True, **options, **QUIET)


@pytest.mark.parametrize("name", ["adamw", "nadam", "radam", "rmsprop", "sgd"])
def test_each_optimizer_goes_on_bit_by_bit(name: Any, tmp_path: Path) -> None:
    class Stop:
        @mvcore.hookimpl
        def mvcore_epoch_end(self, row: Any) -> None:
            if row["epoch"] == 1:
                raise mvcore.StopTraining

    options = {"optimizer": name, "weight_decay": 0.01, "epochs": 4, "lr": 1e-2, **QUIET}
    whole = mvcore.fit(model(), rows(), **options)
    mvcore.fit(model(), rows(), checkpoint=tmp_path, callbacks=[Stop()], **options)
    assert same(mvcore.fit(model(), rows(), checkpoint=tmp_path, resume=True, **options), whole)
