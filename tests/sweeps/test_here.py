"""Trials in this process: what they leave, that they go on where they were, and that failures are kept apart."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import mvcore
from mvcore import runs
from mvcore.errors import ModelFileError, TrainingError
from mvcore.sweeps import Record, Sweep
from mvcore.sweeps.config import read
from mvcore.sweeps.search import Book
from mvcore.sweeps.store import FolderStore
from mvcore.sweeps.sweep import sweep
from mvcore.sweeps.validation import check

LR = {"training.lr": {"float": [1e-3, 1e-2], "log": True}}
MODELS = {"model": {"plugin": {"sweet": {"loss.beta": {"float": [0.1, 3.0]}}, "sour": {}}}}


def swept(given: dict[str, Any], out: Path, **more: Any) -> Sweep:
    return sweep(given, out=out, progress=False, **more)


def values(found: Sweep) -> list[Any]:
    return [(r.number, r.status, r.answers, [(e.epoch, e.values) for e in r.reports]) for r in found.records]


def test_a_sweep_leaves_a_leaderboard_figures_and_the_best_model(tables: Any, tmp_path: Path) -> None:
    space = {**MODELS, **LR, "model.modalities.*.encoder": {"plugin": {"mlp": {"hidden": {"choice": [[4], [4, 4]]}}}}}
    given = tables(
        space,
        training={"epochs": 2},
        trials=8,
        report_epochs=1,
        metric={"log_likelihood": "max", "imputation/*": "max"},
        keep=2,
    )
    found = swept(given, tmp_path / "mine")
    assert [record.status for record in found.records] == ["finished"] * 8
    assert [[report.epoch for report in record.reports] for record in found.records] == [[1, 2]] * 8
    assert {p.name for p in (tmp_path / "mine").iterdir()} == {
        "best", "leaderboard.csv", "leaderboard.md", "report", "sweep.json", "trials"
    }  # fmt: skip
    assert {p.name for p in (tmp_path / "mine/report").iterdir()} == {
        f"{name}.png" for name in ("best_so_far", "parallel_coordinates", "plugins", "importance", "front")
    }
    table = found.table
    assert list(table["log_likelihood"]) == sorted(table["log_likelihood"], reverse=True)
    assert found.best is not None
    assert table["trial"][0] == found.best.number
    assert {"log_likelihood@1", "imputation/*@1", "model[sweet].loss.beta", "epochs", "seconds", "error"} <= set(table)
    assert not {"log_likelihood@2"} & set(table)
    for record in found.records:  # a parameter of one plugin exists only where that is chosen
        assert ("model[sweet].loss.beta" in record.answers) == (record.answers["model"] == "sweet")
        config = json.loads((tmp_path / f"mine/trials/{record.number:04d}/config.json").read_text())
        assert config["model"]["use"] == record.answers["model"]
        assert all(m["encoder"]["use"] == "mlp" for m in config["model"]["modalities"].values())
    card = (tmp_path / "mine/best/README.md").read_text()
    assert f"This is trial {found.best.number} of 8 of the sweep `mine`" in card
    assert mvcore.load(tmp_path / "mine/best").config == found.load().config
    kept = {p.parent.name for p in (tmp_path / "mine/trials").glob("*/model")}
    front = {f"{record.number:04d}" for record in found.front}
    ranked = [f"{number:04d}" for number in table["trial"][:2]]
    assert kept == {*front, *ranked}
    assert not list((tmp_path / "mine").rglob("*.pt"))
    lost = next(r.number for r in found.records if f"{r.number:04d}" not in kept)
    with pytest.raises(ModelFileError, match=rf"The model of trial {lost} \(finished\) was not kept"):
        found.load(lost)
    with pytest.raises(ModelFileError, match="has no trial 99"):
        found.load(99)
    assert values(Sweep.of(tmp_path / "mine")) == values(found)


def test_the_scores_are_those_of_the_last_weights_on_validation_rows(tables: Any, tmp_path: Path) -> None:
    goals = {"log_likelihood": "max", "validation_loss": "min", "imputation/*": "max"}
    found = swept(tables(LR, metric=goals, trials=1), tmp_path / "out")
    (record,) = found.records
    assert record.last is not None
    rows = runs.run_data(found.plan.plain["data"])
    model = found.load(0)
    metrics = ["log_likelihood", {"use": "imputation", "baselines": False}]
    report = mvcore.evaluate(model, rows.validation, train=rows.train, metrics=metrics, K=20)
    assert record.last.values["log_likelihood"] == pytest.approx(report.values["log_likelihood"], rel=1e-5)
    own = [report.values[f"imputation/{name}"] for name in rows.train.schema.names]
    assert record.last.values["imputation/*"] == pytest.approx(sum(own) / len(own), rel=1e-4)
    # fit gives the same validation loss for the last epoch of the same training, and the same weights without it
    tables_of = found.plan.tables(record.answers, rows.train.schema.names)
    torch.manual_seed(0)
    again = mvcore.create(tables_of["model"].pop("use"), rows.train, **tables_of["model"])
    run = mvcore.fit(again, rows.train, validation=rows.validation, progress=False, **tables_of["training"])
    assert record.last.values["validation_loss"] == pytest.approx(run.history[-1]["validation_loss"], rel=1e-5)


def test_equal_seeds_give_equal_sweeps_and_others_others(tables: Any, tmp_path: Path) -> None:
    for search, trials in (("random", 3), ("optuna", 3)):
        given = tables({**MODELS, **LR}, search=search, trials=trials, report_epochs=1, training={"epochs": 2})
        one = values(swept(given, tmp_path / f"{search}1"))
        assert one == values(swept(given, tmp_path / f"{search}2"))
        given["sweep"]["seed"] = 1
        assert one != values(swept(given, tmp_path / f"{search}3"))


def test_a_grid_trains_every_point(tables: Any, tmp_path: Path) -> None:
    space = {
        "model": {"plugin": {"sweet": {"sugar": {"choice": [0.1, 0.2]}}, "sour": {}}},
        "training.seed": {"int": [0, 1]},
    }
    found = swept(tables(space, search="grid", trials=None), tmp_path / "out")
    assert len(found.records) == 6
    assert len({json.dumps(record.answers) for record in found.records}) == 6


class Stopped(Exception):
    """Stands for a process that ends at once."""


def test_an_interrupted_sweep_goes_on_and_trains_nothing_twice(
    tables: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = tmp_path / "steps"
    steps.write_text("")
    trouble = {"how": "write", "flag": str(steps)}
    given = tables({"model": {"plugin": {"trouble": trouble, "sweet": {}}}, **LR}, trials=4, report_epochs=1, seed=2)
    whole = swept(given, tmp_path / "whole")
    models = [record.answers["model"] for record in whole.records]
    assert set(models) == {"trouble", "sweet"}
    trained, steps_of_whole = models.count("trouble"), len(steps.read_text().splitlines())
    assert steps_of_whole % (trained * 4) == 0  # the same number in each epoch

    from mvcore.sweeps import trial as module

    said = [0]
    original = module._Reporter.evaluated

    def breaks(self: Any, *args: Any) -> Any:
        said[0] += 1
        if said[0] == 7:  # the second trial has had epochs 1 and 2, the third is on the disk
            raise KeyboardInterrupt
        return original(self, *args)

    steps.write_text("")
    with monkeypatch.context() as patch:
        patch.setattr(module._Reporter, "evaluated", breaks)
        with pytest.raises(KeyboardInterrupt):
            swept(given, tmp_path / "broken")
    half = Sweep.of(tmp_path / "broken")
    assert [record.status for record in half.records] == ["finished", "open"]
    assert (tmp_path / "broken/leaderboard.csv").exists()
    found = swept(given, tmp_path / "broken")
    assert [r.answers for r in found.records] == [r.answers for r in whole.records]
    last = [(r.last.epoch, r.last.values) for r in found.records if r.last]
    assert last == [(r.last.epoch, r.last.values) for r in whole.records if r.last]
    assert len(steps.read_text().splitlines()) == steps_of_whole
    for number in range(4):
        epochs = [report.epoch for report in found.records[number].reports]
        assert epochs == sorted(set(epochs))
    again = swept(given, tmp_path / "broken")  # nothing is left to do
    assert values(again) == values(found)
    assert len(steps.read_text().splitlines()) == steps_of_whole


def test_a_sweep_goes_on_with_more_trials_and_other_resources(tables: Any, tmp_path: Path) -> None:
    short = {"epochs": 1}
    few = swept(tables(LR, training=short, trials=2), tmp_path / "out")
    more = swept(tables(LR, training=short, trials=4, resources={"cpu": 2}, retries=0, keep=1), tmp_path / "out")
    assert values(more)[:2] == values(few)
    assert values(more) == values(swept(tables(LR, training=short, trials=4), tmp_path / "other"))


def test_optuna_goes_on_with_what_it_knows(tables: Any, tmp_path: Path) -> None:
    given = tables({**MODELS, **LR}, search="optuna", trials=3)
    swept(given, tmp_path / "out")
    given["sweep"]["trials"] = 5
    plan = check(read(given), "here")
    book = Book(plan, FolderStore(tmp_path / "out/trials"))
    study = book._source._study  # type: ignore[union-attr]
    assert [trial.value for trial in study.trials] == [r.goal(["log_likelihood"])[0] for r in book.records.values()]  # type: ignore[index]
    found = swept(given, tmp_path / "out")
    assert len({json.dumps(record.answers) for record in found.records}) == 5


@pytest.mark.parametrize(
    ("how", "step", "error"),
    [("config", 0, "'config' was asked for"), ("data", 3, "asked to fail"), ("diverge", 3, "asked to diverge")],
)
def test_what_would_fail_again_is_recorded_and_not_tried_again(
    how: str, step: int, error: str, tables: Any, tmp_path: Path
) -> None:
    trouble = {"how": how, "flag": str(tmp_path / "flag"), "step": step}
    space = {"model": {"plugin": {"trouble": trouble, "sweet": {}}}, "training.seed": {"choice": [0]}}
    if how == "config":  # the model that is built before anything starts is another one
        space["model"] = {"plugin": {"sweet": {}, "trouble": trouble}}
    found = swept(tables(space, search="grid", trials=None), tmp_path / "out")
    (failed,) = [record for record in found.records if record.answers["model"] == "trouble"]
    assert failed.status == "failed"
    assert error in (failed.error or "")
    assert list(found.failures) == [failed.number]
    assert found.best is not None
    assert found.best.answers["model"] == "sweet"
    assert error in (tmp_path / "out/leaderboard.csv").read_text()
    assert values(swept(tables(space, search="grid", trials=None), tmp_path / "out")) == values(found)


def test_a_fault_that_may_pass_is_tried_again_from_the_checkpoint(tables: Any, tmp_path: Path) -> None:
    steps, flag = tmp_path / "steps", tmp_path / "flag"
    calm = {"how": "write", "flag": str(steps)}
    whole = swept(tables({"model": {"plugin": {"trouble": calm}}}, trials=1, report_epochs=1), tmp_path / "whole")
    an_epoch = len(steps.read_text().splitlines()) // 4
    raising = {"how": "raise", "flag": str(flag), "step": 2 * an_epoch + 1}
    given = tables({"model": {"plugin": {"trouble": raising}}}, trials=1, report_epochs=1, retries=1)
    # in its second try the model makes its 2·an_epoch + 1 steps only if it began anew; then it would raise again
    found = swept(given, tmp_path / "out")
    assert [r.status for r in found.records] == ["finished"]
    assert [e.values for e in found.records[0].reports] == [e.values for e in whole.records[0].reports]


def test_a_sweep_in_which_all_fail_says_of_what(tables: Any, tmp_path: Path) -> None:
    trouble = {"how": "diverge", "flag": "", "step": 2}
    given = tables(
        {"model": {"plugin": {"trouble": trouble}}, "training.seed": {"int": [0, 2]}}, search="grid", trials=None
    )
    with pytest.raises(TrainingError, match=r"All 3 trials of the sweep failed:\n  0, 1, 2: .*asked to diverge"):
        swept(given, tmp_path / "out")
    assert len(Sweep.of(tmp_path / "out").failures) == 3
    assert Sweep.of(tmp_path / "out").best is None
    with pytest.raises(ModelFileError, match="has no finished trial"):
        Sweep.of(tmp_path / "out").load()


def test_the_best_is_trained_once_more_on_all_rows_if_asked(tables: Any, tmp_path: Path) -> None:
    found = swept(tables(LR, trials=2, retrain=True), tmp_path / "out")
    best = mvcore.load(tmp_path / "out/best")
    assert "on the training and the validation rows" in (tmp_path / "out/best/README.md").read_text()
    assert any(
        not torch.equal(a, b)
        for a, b in zip(best.state_dict().values(), found.load().state_dict().values(), strict=True)
    )


def test_rows_without_a_metric_value_fail_the_trial_and_not_the_sweep(tables: Any, tmp_path: Path) -> None:
    space = {"training.lr": {"choice": [1e-3, 1e29]}}
    found = swept(tables(space, search="grid", trials=None), tmp_path / "out")
    assert [record.status for record in found.records] == ["finished", "failed"]
    assert all(math.isfinite(v) for r in found.records for e in r.reports for v in e.values.values())


def test_another_folder_below_the_storage_holds_the_trials(tables: Any, tmp_path: Path) -> None:
    for storage in (str(tmp_path / "shared"), f"file://{tmp_path}/bucket"):
        given = tables(LR, storage=storage, report_epochs=2)
        name = "folder" if "://" not in storage else "bucket"
        if name == "bucket":
            pytest.importorskip("pyarrow")
        found = swept(given, tmp_path / "out" / name)
        assert not (tmp_path / "out" / name / "trials").exists()
        where = tmp_path / ("shared" if name == "folder" else "bucket") / name / "trials"
        assert sorted(p.name for p in where.iterdir()) == ["0000", "0001"]
        assert found.load(1).config is not None
        assert values(swept(given, tmp_path / "out" / name)) == values(found)
    assert values(Sweep.of(tmp_path / "out/folder")) == values(found)


def test_a_record_says_what_it_is() -> None:
    record = Record(number=3, answers={"model": "sweet"})
    assert record.status == "open"
    assert record.last is None
    assert record.goal(["log_likelihood"]) is None
