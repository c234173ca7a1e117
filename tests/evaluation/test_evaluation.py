"""The evaluation: each modality encoded once; what it leaves as it was; what a report says and writes."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mvcore
from mvcore.config.plain import structure, unstructure
from mvcore.errors import ConfigError, DataError, NotApplicableError
from mvcore.evaluation.evaluation import Evaluation
from mvcore.evaluation.report import Report
from mvcore.metrics import specs as c
from mvcore.models.multimodal import MultimodalVAE
from mvcore.plugins.registry import Registry
from mvcore.testing.checks import all_patterns
from mvcore.testing.linear import LinearGaussian

SUBSETS = [("a",), ("b",), ("c",), ("a", "b"), ("a", "c"), ("b", "c"), ("a", "b", "c")]


@pytest.fixture
def model(world: LinearGaussian, compose: Callable[..., MultimodalVAE]) -> MultimodalVAE:
    return compose(world, subsets="all").float()


def partial(world: LinearGaussian, fill: float = math.nan, seed: int = 1) -> mvcore.MultimodalDataset:
    observed = all_patterns(3).repeat(4, 1)
    batch = world.sample(28, observed=observed, seed=seed)
    arrays = {m: np.full((28, batch.x[m].shape[1]), fill) for m in batch.names}
    for m in batch.names:
        arrays[m][batch.column(m)] = batch.x[m].numpy()
    masks = {m: batch.column(m).numpy() for m in batch.names}
    return mvcore.MultimodalDataset(arrays, masks, labels=np.arange(28) % 2)


def test_every_subset_is_fused_from_one_encoding(world: LinearGaussian, model: MultimodalVAE) -> None:
    calls = dict.fromkeys(world.schema.names, 0)
    for name, encoder in model.encoders.items():
        encoder.register_forward_hook(lambda *_, name=name: calls.__setitem__(name, calls[name] + 1))
    test = partial(world)
    e = Evaluation(model, test, batch_size=28)
    fused = {given: e.embed(given) for given in SUBSETS}
    e.embed()
    assert calls == {"a": 1, "b": 1, "c": 1}
    for given, embedded in fused.items():  # the law: as if encoded anew
        np.testing.assert_allclose(embedded, model.embed(test.batch().only(given)).numpy(), rtol=1e-5, atol=1e-6)
        expected = test.observed[:, [world.schema.names.index(m) for m in given]].all(1)
        assert torch.equal(e.rows(given), expected)


def test_all_metrics_together_encode_test_and_training_rows_once(world: LinearGaussian, model: MultimodalVAE) -> None:
    calls: list[int] = []
    model.encoders["a"].register_forward_hook(lambda _, x, __: calls.append(len(x[0])))
    mvcore.evaluate(model, partial(world), train=partial(world, seed=2), K=2, metrics=_names(skip="coherence"))
    assert calls == [16, 16]  # 4 of 7 patterns have a, four times each


def test_what_a_row_does_not_have_changes_nothing(world: LinearGaussian, model: MultimodalVAE) -> None:
    reports = [
        mvcore.evaluate(model, partial(world, fill), train=partial(world, fill, 2), K=3).values
        for fill in (math.nan, 1e6)
    ]
    assert reports[0] == reports[1]
    assert all(map(math.isfinite, reports[0].values()))


def test_batch_size_changes_nothing_but_draws(world: LinearGaussian, model: MultimodalVAE) -> None:
    test, train = partial(world), partial(world, seed=2)
    for given in (None, ("a", "c")):
        small, large = (Evaluation(model, test, batch_size=size).embed(given) for size in (3, 100))
        np.testing.assert_allclose(small, large, rtol=1e-5, atol=1e-6)
    names = ["linear_probe", "clustering"]
    small, large = (mvcore.evaluate(model, test, train=train, metrics=names, batch_size=s).values for s in (3, 100))
    assert small == pytest.approx(large)


def test_draws_follow_the_seed_and_nothing_else_moves(world: LinearGaussian, model: MultimodalVAE) -> None:
    test, train = partial(world), partial(world, seed=2)
    model.train()
    state, legacy = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index, union-attr]
    whole = mvcore.evaluate(model, test, train=train, K=3).values
    assert torch.equal(state, torch.get_rng_state())
    assert np.array_equal(legacy, np.random.get_state()[1])  # type: ignore[index, call-overload]
    assert all(module.training for module in model.modules())
    alone = mvcore.evaluate(model, test, train=train, K=3, metrics=["reconstruction"]).values
    assert alone.items() <= whole.items()  # whatever was asked before
    other = mvcore.evaluate(model, test, K=3, metrics=["reconstruction"], seed=1).values
    assert other != alone


def test_what_cannot_be_computed_is_left_out_or_refused(world: LinearGaussian, model: MultimodalVAE) -> None:
    report = mvcore.evaluate(model, partial(world), K=2)
    assert {"coherence", "imputation", "linear_probe"} <= set(report.skipped)
    assert "train=" in report.skipped["linear_probe"]
    assert "classifiers" in report.skipped["coherence"]
    assert not any(name.startswith(("coherence", "imputation", "linear_probe")) for name in report.values)
    with pytest.raises(NotApplicableError, match=r"'linear_probe'.*train="):
        mvcore.evaluate(model, partial(world), metrics=["linear_probe"])
    with pytest.raises(ConfigError, match="Did you mean 'linear_probe'"):
        mvcore.evaluate(model, partial(world), metrics=["linear_prob"])
    with pytest.raises(ConfigError, match="K"):
        mvcore.evaluate(model, partial(world), metrics=[{"use": "log_likelihood", "K": 0}])
    with pytest.raises(DataError, match="two calls"):
        mvcore.evaluate(model, partial(world), metrics=["log_likelihood", {"use": "log_likelihood", "K": 3}])
    with pytest.raises(DataError, match="batch_size"):
        Evaluation(model, partial(world), batch_size=0)


@pytest.mark.parametrize("name", [entry.id for entry in Registry.installed().entries("metric")])
def test_configs_survive_being_written(name: str) -> None:
    config = structure("metric", name)
    assert structure("metric", json.loads(json.dumps(unstructure(config)))) == config


def test_a_level_outside_0_and_1_is_refused() -> None:
    with pytest.raises(ValueError, match="levels"):
        c.IntervalCoverageConfig(levels=(0.5, 95.0))


def test_a_report_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"linear_probe/1_inputs": 0.5, "linear_probe/2_inputs": 1.0, "reconstruction/a/psnr": math.inf}
    report = Report(values=values, skipped={"coherence": "no classifier"}, about={"rows": 3, "K": None})
    folder = report.save(tmp_path / "report")
    assert {file.name for file in folder.iterdir()} == {"report.json", "report.md", "linear_probe.png"}
    read = json.loads((folder / "report.json").read_text())
    assert read["values"] == {**values, "reconstruction/a/psnr": None}
    assert "| linear_probe/1_inputs | 0.500 |" in (folder / "report.md").read_text()
    assert "no classifier" in report.markdown()
    with pytest.raises(DataError, match="holds something"):
        report.save(folder)

    def fail(self: Report, folder: Path) -> list[Path]:
        raise OSError("no space left")

    monkeypatch.setattr(Report, "figures", fail)
    with pytest.raises(OSError, match="no space"):
        report.save(tmp_path / "other")
    assert [file.name for file in tmp_path.iterdir()] == ["report"]


def test_the_figures_draw_the_values(tmp_path: Path) -> None:
    values = {"linear_probe/1_inputs": 0.5, "linear_probe/2_inputs": 0.75, "interval_coverage/a/0.5": 0.4,
              "interval_coverage/a/0.9": 0.8, "imputation/a": 0.6, "imputation/a/ridge": -3.0}  # fmt: skip
    figures = Report(values=values, skipped={}, about={}).draw()
    assert set(figures) == {"linear_probe", "interval_coverage", "imputation"}
    assert [bar.get_height() for bar in figures["linear_probe"].axes[0].patches] == [0.5, 0.75]
    assert list(figures["interval_coverage"].axes[0].lines[1].get_ydata()) == [0.4, 0.8]
    assert [bar.get_height() for bar in figures["imputation"].axes[0].patches] == [0.6, -0.1]


def test_the_examples_of_the_document_run(
    run_examples: Callable[[Path], dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = Path(__file__).parents[2] / "docs" / "evaluation.md"
    monkeypatch.chdir(tmp_path)
    names = run_examples(document)
    values = names["report"].values
    assert values["coherence/random"] == pytest.approx(0.1)
    assert (tmp_path / "runs" / "report" / "coherence.png").is_file()
    e = Evaluation(names["run"].model, names["test"])
    spread = names["Spread"]()(e)
    assert spread["spread/6_inputs"] == pytest.approx(e.embed()[names["test"].observed.all(1).numpy()].var(0).mean())
    bars = names["draw"](Report(values=spread, skipped={}, about={})).axes[0].patches
    assert [bar.get_height() for bar in bars] == [spread[f"spread/{n}_inputs"] for n in range(1, 7)]


def _names(skip: str) -> list[str]:
    return [entry.id for entry in Registry.installed().entries("metric") if entry.name != skip]
