"""A sweep is checked whole before anything starts: all faults at once, with their paths, and without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import mvcore
from mvcore.data.schema import Schema
from mvcore.errors import ConfigError, ModelFileError
from mvcore.sweeps.config import Plan, read
from mvcore.sweeps.sweep import sweep
from mvcore.sweeps.validation import check

LR = {"training.lr": {"float": [1e-4, 1e-2], "log": True}}
MODELS = {"model": {"plugin": {"sweet": {"loss.beta": {"float": [0.1, 3.0]}}, "sour": {}}}}


def problems(given: dict[str, Any], schema: Schema | None = None) -> list[str]:
    try:
        check(read(given), "here", schema)
    except ConfigError as error:
        return error.problems
    return []


def test_a_good_space_has_no_fault(tables: Any) -> None:
    space = {
        **MODELS,
        **LR,
        "model.modalities.*.encoder": {"plugin": {"mlp": {"hidden": {"choice": [[4], [4, 4]]}}}},
        "model.latent_dim": {"int": [2, 8]},
    }
    assert problems(tables(space)) == []
    plan = check(read(tables(space)), "here")
    made = plan.tables(
        {"model": "sour", "training.lr": 1e-3, "model.modalities.*.encoder": "mlp", "model.latent_dim": 5,
         "model.modalities.*.encoder[mlp].hidden": [4]}, ["rna", "cna"],
    )  # fmt: skip
    assert made["model"]["use"] == "sour"
    assert made["model"]["latent_dim"] == 5
    for name in ("rna", "cna"):
        assert made["model"]["modalities"][name]["encoder"] == {"use": "mlp", "hidden": [4]}
        assert made["model"]["modalities"][name]["decoder"] == {"hidden": [4]}
    assert made["training"] == {"epochs": 4, "batch_size": 16, "lr": 1e-3}


def test_all_faults_are_told_at_once_with_their_paths(tables: Any) -> None:
    space = {
        "model": {"plugin": {"sweet": {"loss.betta": {"float": [0.1, 3.0]}}, "sowr": {}}},
        "model.modality_dropout": {"float": [-0.5, 0.5]},
        "training.epoch": {"int": [1, 3]},
    }
    given = tables(space, report_epochs=0)
    given["data"]["validation"] = 0.0
    found = problems(given)
    assert [f for f in found if f.startswith("sweep.report_epochs: ") and "got 0" in f]
    assert [f for f in found if f.startswith("data.validation: ")]
    found = problems(tables(space, metric={"log_likelyhood": "max"}))
    assert [f for f in found if f.startswith("sweep.metric.log_likelyhood: ") and "Did you mean 'log_likelihood'" in f]
    assert [f for f in found if f.startswith("space.model[sweet].loss.betta: ") and "did you mean 'beta'" in f]
    assert [f for f in found if f.startswith("space.model: ") and "Did you mean 'sour'" in f]
    assert [f for f in found if f.startswith("space.model.modality_dropout: ") and f.endswith("got -0.5")], found
    assert [f for f in found if f.startswith("space.training.epoch: ") and "did you mean 'epochs'" in f]
    assert len(found) == 5, found


def test_the_greatest_value_of_a_range_is_checked_too(tables: Any) -> None:
    (fault,) = problems(tables({"model.modality_dropout": {"float": [0.0, 1.5]}}))
    assert fault.startswith("space.model.modality_dropout: ")
    assert "1.5" in fault


def test_a_path_outside_the_branches_must_exist_in_every_model(tables: Any) -> None:
    (fault,) = problems(tables({**MODELS, "model.sugar": {"float": [0.1, 0.2]}}))
    assert fault.startswith("space.model.sugar: sour has no such field")
    assert "put it into the branches" in fault
    assert problems(tables({"model": {"plugin": {"sweet": {"sugar": {"float": [0.1, 0.2]}}, "sour": {}}}})) == []


def test_combinations_that_refuse_each_other_are_listed(tables: Any) -> None:
    found = problems(tables({**MODELS, "model.posterior.subsets": {"choice": ["observed", "each", "all"]}}))
    assert len(found) == 2
    for subsets in ("each", "all"):
        (fault,) = [fault for fault in found if f"got '{subsets}'" in fault]
        assert "the loss sour needs subsets='observed'" in fault
        assert f"model = 'sour', model.posterior.subsets = '{subsets}'" in fault


def test_a_path_through_a_star_is_told_by_its_name_in_the_space(tables: Any) -> None:
    space = {"model.modalities.*.encoder": {"plugin": {"mlp": {"hiden": {"choice": [[4], [5]]}}}}}
    for schema in (None, Schema.from_shapes({"rna": (3,), "cna": (2,)})):
        given = tables(space)
        given["model"] = {}
        (fault,) = problems(given, schema)
        assert fault.startswith("space.model.modalities.*.encoder[mlp].hiden: ")
        assert "did you mean 'hidden'" in fault


def test_what_depends_on_the_data_is_asked_when_they_are_read(tables: Any) -> None:
    given = tables({"model.modalities.*.encoder.channels": {"choice": [[4, 8], [8, 8]]}})
    given["model"] = {}
    assert problems(given) == []  # of images the encoders could have channels
    (fault,) = problems(given, Schema.from_shapes({"rna": (3,)}))
    assert fault.startswith("space.model.modalities.*.encoder.channels: ")
    assert problems(given, Schema.from_shapes({"image": (3, 32, 32)})) == []
    given = tables({**LR})
    given["model"] = {"modalities": {"none": {"weight": 2.0}}}
    assert any("none" in fault for fault in problems(given, Schema.from_shapes({"rna": (3,)})))


@pytest.mark.parametrize(
    ("space", "sweep", "message"),
    [
        (LR, {"search": "grid", "trials": None}, r"space.training.lr: a grid has no end over a range of floats"),
        ({"training.epochs": {"int": [1, 2]}}, {"search": "grid"}, "sweep.trials: a grid has as many trials"),
        (LR, {"trials": None}, "sweep.trials: required, but missing"),
        (LR, {"scheduler": "asha", "address": "local"}, "sweep.report_epochs: 'asha' judges trials while they train"),
        (
            {**LR, "training.schedule": "constant"},
            {"scheduler": "pbt", "address": "local"},
            "sweep.report_epochs: 'pbt' judges trials while they train",
        ),
        (
            {**LR, "training.schedule": "constant"},
            {"scheduler": "pbt", "address": "local", "report_epochs": 1, "resources": {"workers": 2}},
            "sweep.resources.workers: 'pbt' trains each trial in one process",
        ),
        (LR, {"scheduler": "asha", "report_epochs": 1}, "sweep.scheduler: 'asha' compares trials"),
        (
            LR,
            {"scheduler": "asha", "address": "local", "report_epochs": 1,
             "metric": {"log_likelihood": "max", "imputation/*": "max"}},
            "sweep.scheduler_metric: which of log_likelihood, imputation/. is 'asha' to judge by",
        ),
        (
            LR,
            {"scheduler": "asha", "address": "local", "report_epochs": 1, "scheduler_metric": "log_likelyhood"},
            "sweep.scheduler_metric: unknown key, did you mean 'log_likelihood'",
        ),
        (LR, {"scheduler_metric": "log_likelihood"}, "sweep.scheduler_metric: there is no scheduler"),
        (LR, {"metric": {}}, "metric"),
        (LR, {"metric": {"log_likelihood": "maximum"}}, "sweep.metric.log_likelihood: expected 'max' or 'min'"),
        (LR, {"metric": "log_likelihood"}, "sweep.metric: expected a table"),
        (LR, {"metrics": {"log_likelihood": {"k": 3}}}, "sweep.metrics.log_likelihood.k: unknown key, expected K"),
        (LR, {"metrics": {"log_likelihood": 3}}, "sweep.metrics: expected a table with a table for each metric"),
        (LR, {"resources": {"cpus": 1}}, "sweep.resources.cpus: unknown key, did you mean 'cpu'"),
        (LR, {"resources": {"cpu": 0}}, "resources.cpu: cpu must be in"),
        (LR, {"resources": {"workers": 2}}, "sweep.resources.workers: address = 'here' trains in this process alone"),
        (LR, {"scheduler": "hyperband"}, "sweep.scheduler: expected 'none', 'asha' or 'pbt', got 'hyperband'"),
        ({**LR, "training.patience": 3}, {}, "training.patience: the last weights of a trial are scored"),
        ({"training.schedule": {"choice": ["constant", "cosine"]}},
         {"scheduler": "pbt", "address": "local", "report_epochs": 1}, "'cosine' has planned every step"),
        (LR, {"scheduler": "pbt", "address": "local", "report_epochs": 1}, "'one_cycle' has planned every step"),
    ],
)  # fmt: skip
def test_what_a_sweep_asks_for_is_checked(tables: Any, space: Any, sweep: Any, message: str) -> None:
    found = problems(tables(space, **sweep))
    assert len(found) == 1, found
    with pytest.raises(ConfigError, match=message):
        raise ConfigError(found)


def test_losses_of_different_models_are_no_metric(tables: Any) -> None:
    goal = {"validation_loss": "min"}
    (fault,) = problems(tables({"model": {"plugin": {"sweet": {}, "sour": {}}}, **LR}, metric=goal))
    assert fault.startswith("sweep.metric.validation_loss: losses of different models")
    (fault,) = problems(tables({"model.loss.beta": {"float": [0.1, 1.0]}}, metric=goal))
    assert "model.loss.beta changes what the loss measures" in fault
    space = {"model.modalities.*.likelihood": {"plugin": {"normal": {}, "laplace": {}}}}
    (fault,) = problems(tables(space, metric=goal))
    assert "model.modalities.*.likelihood changes what the loss measures" in fault
    assert problems(tables({"model.latent_dim": {"int": [2, 4]}, **LR}, metric=goal)) == []


def test_a_model_in_both_tables_is_refused(tables: Any) -> None:
    given = tables(MODELS)
    given["model"]["use"] = "sweet"
    assert problems(given) == ["model.use: the space chooses the model; leave it out"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spase": {}}, "spase: unknown key, did you mean 'space'"),
        ({"space": 3}, "space: expected a table, got 3"),
        ({"sweep": None}, "sweep: expected a table, got None"),
        ({"training": [1]}, r"training: expected a table, got \[1\]"),
        ({"data": {"use": "miniacc", "folder": "x", "validation": 0.2}}, "data: .*name one source"),
        ({"model": {"weights": object()}}, "hold what a file could not"),
    ],
)
def test_tables_are_checked(tables: Any, change: dict[str, Any], message: str, tmp_path: Path) -> None:
    given = {**tables(LR), **change}
    with pytest.raises(ConfigError, match=message):
        sweep({name: value for name, value in given.items() if name != "space" or value != {}}, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_spec_of_no_distribution_is_refused_with_the_way_to_package_it(tables: Any, tmp_path: Path) -> None:
    import zoo  # type: ignore[import-not-found]

    with mvcore.local(zoo.sweet, "mine"), pytest.raises(mvcore.NotPackagedError, match=r"entry-point group"):
        sweep(tables({"model": {"plugin": {"mine": {}, "sweet": {}}}}), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_validation_and_a_dry_run_import_no_torch_and_no_ray(tables: Any, tmp_path: Path) -> None:
    code = """
import json, sys
from mvcore.sweeps.config import read
from mvcore.sweeps.validation import check
from mvcore.sweeps.search import samples
plan = check(read(json.loads(sys.argv[1])), "here")
samples(plan, 5)
import mvcore.sweeps.sweep
sys.exit(f"{[m for m in ('torch', 'ray', 'optuna', 'pandas') if m in sys.modules]} imported" if
         {"torch", "ray", "optuna", "pandas"} & set(sys.modules) else 0)
"""
    given = json.dumps(tables({**MODELS, **LR}))
    done = subprocess.run([sys.executable, "-c", code, given], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_folder_of_something_else_or_of_another_sweep_is_refused(tables: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ModelFileError, match=r"holds 'notes.txt', and no sweep"):
        sweep(tables(LR), out=tmp_path)
    (tmp_path / "sweep.json").write_text(json.dumps(tables(LR, report_epochs=2)))
    with pytest.raises(ModelFileError, match=r"holds another sweep: \[sweep\] differ"):
        sweep(tables(LR), out=tmp_path)
    (tmp_path / "sweep.json").write_text("[]")
    with pytest.raises(ModelFileError, match=r"its sweep.json is another's"):
        sweep(tables(LR), out=tmp_path)
    (tmp_path / "sweep.json").write_text(json.dumps(tables(LR)))
    with pytest.raises(ModelFileError, match=r"go on with resume=True"):
        sweep(tables(LR), out=tmp_path, resume=False)


def test_a_metric_without_such_a_value_is_found_before_a_trial_starts(tables: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gives no value 'imputation/rma'. Did you mean 'imputation/rna'"):
        sweep(tables(LR, metric={"imputation/rma": "max"}), out=tmp_path / "out", progress=False)
    with pytest.raises(ConfigError, match=r"The metric 'coherence' can't be computed"):
        sweep(tables(LR, metric={"coherence": "max"}), out=tmp_path / "out", progress=False)
    assert not (tmp_path / "out" / "trials").exists()


def test_a_plan_composes_paths_of_one_depth_with_the_star_first(tables: Any) -> None:
    given = tables({"model.modalities.*.weight": {"choice": [1.0, 2.0]}, "model.modalities.rna.weight": 3.0})
    plan: Plan = check(read(given), "here")
    made = plan.tables({"model.modalities.*.weight": 2.0}, ["rna", "cna"])
    assert made["model"]["modalities"]["rna"]["weight"] == 3.0
    assert made["model"]["modalities"]["cna"]["weight"] == 2.0
