"""A metric of another distribution brings its figure; one that is broken costs no report."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

import mvcore
from mvcore.errors import BrokenPluginError
from mvcore.evaluation.report import Report
from mvcore.plugins.registry import Registry
from mvcore.plugins.spec import ComponentSpec, LossConfig, MetricConfig
from mvcore.testing.linear import LinearGaussian

METRIC = """
    from attrs import frozen
    from mvcore.evaluation import axes_of, bars_by_inputs
    from mvcore.plugins import ComponentSpec, MetricConfig

    @frozen(kw_only=True)
    class RowsConfig(MetricConfig):
        pass

    spec = ComponentSpec(api=1, config=RowsConfig, build="{module}:build", figure="{module}:{figure}")

    def build(config):
        return lambda e: {{f"rows/{{n}}_inputs": float(sum(e.rows(s).sum() for s in e.subsets(n))) for n in (1, 2)}}

    def draw(report):
        return bars_by_inputs(report.under("rows"), "rows")

    def fails(report):
        return report.values["no such value"]

    def is_none(report):
        return 3
"""
VALUES = {"rows/1_inputs": 5.0, "linear_probe/1_inputs": 0.5}

Install = Callable[..., Path]


def installed(install: Install, dist: str = "acme", figure: str = "draw") -> None:
    module = f"{dist}_rows"
    install(dist, f"{module}:spec", METRIC.format(module=module, figure=figure), kind="metric", name="rows")


def report(values: dict[str, float] | None = None) -> Report:
    return Report(values=VALUES if values is None else values, skipped={}, about={})


def test_the_figure_of_a_plugin_is_saved_beside_the_cores(install: Install, tmp_path: Path) -> None:
    installed(install)
    world = LinearGaussian({"a": 2, "b": 3}, 1)
    mask = [[True, True], [True, False], [False, True]]
    data = mvcore.MultimodalDataset(
        {m: world.sample(3).x[m].numpy() for m in "ab"},
        {m: [row[i] for row in mask] for i, m in enumerate("ab")},
    )
    found = mvcore.evaluate(mvcore.create("multimodal", data, latent_dim=1), data, metrics=["rows"])
    assert found.values == {"rows/1_inputs": 4.0, "rows/2_inputs": 1.0}  # two rows have a, two have b, one has both
    assert [bar.get_height() for bar in found.draw()["rows"].axes[0].patches] == [4.0, 1.0]
    folder = found.save(tmp_path / "report")
    assert {file.name for file in folder.iterdir()} == {"report.json", "report.md", "rows.png"}
    assert set(report().draw()) == {"rows", "linear_probe"}
    assert set(report({"linear_probe/1_inputs": 0.5}).draw()) == {"linear_probe"}


@pytest.mark.parametrize(
    ("figure", "why"),
    [
        ("drwa", "AttributeError: module 'acme_rows' has no attribute 'drwa'"),
        ("fails", "KeyError: 'no such value'"),
        ("is_none", "TypeError: 'acme_rows:is_none' gave 3, expected a matplotlib figure or None"),
    ],
)
def test_a_figure_that_fails_is_left_out_with_a_warning(
    install: Install, tmp_path: Path, caplog: pytest.LogCaptureFixture, figure: str, why: str
) -> None:
    installed(install, figure=figure)
    with caplog.at_level(logging.WARNING, logger="mvcore.evaluation.report"):
        folder = report().save(tmp_path / "report")
    assert {file.name for file in folder.iterdir()} == {"report.json", "report.md", "linear_probe.png"}
    assert [record.getMessage() for record in caplog.records] == [f"The figure of acme:rows is left out: {why}"]


def test_a_metric_whose_spec_is_broken_is_left_out_with_a_warning(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install("acme", "acme_rows:spec", "raise RuntimeError('no licence')", kind="metric", name="rows")
    with caplog.at_level(logging.WARNING, logger="mvcore.evaluation.report"):
        assert set(report().draw()) == {"linear_probe"}
    assert "The figure of acme:rows is left out: BrokenPluginError" in caplog.text
    assert "no licence" in caplog.text


def test_two_metrics_of_one_name_have_a_figure_each(install: Install) -> None:
    installed(install)
    installed(install, "zoo")
    assert set(report().draw()) == {"acme_rows", "zoo_rows", "linear_probe"}


def test_a_figure_that_is_not_there_is_a_fault_of_the_plugin(install: Install) -> None:
    installed(install, figure="drwa")
    registry = Registry(entry for entry in Registry.installed().entries() if entry.dist == "acme")
    (fault,) = registry.broken()
    assert "its figure 'acme_rows:drwa' cannot be imported: AttributeError" in str(fault)
    assert fault.entry_id == "acme:rows"


def test_a_local_metric_has_its_figure_in_its_block(install: Install) -> None:
    installed(install)
    spec = Registry.installed().spec("metric", "rows")
    local = ComponentSpec(api=1, config=spec.config, build=spec.build, figure=spec.figure)
    with mvcore.local(local, "mine"):
        assert set(report().draw()) == {"rows", "mine", "linear_probe"}
    assert set(report().draw()) == {"rows", "linear_probe"}


@pytest.mark.parametrize("field", ["build", "figure", "migrate"])
@pytest.mark.parametrize("path", ["mine.draw", "mine:", ":draw", "", 3, print])
def test_a_path_that_names_no_function_is_refused(field: str, path: object) -> None:
    fields = {"build": "mine:build", field: path}
    with pytest.raises((ValueError, TypeError), match=field):
        ComponentSpec(api=1, config=MetricConfig, **fields)  # type: ignore[arg-type]


def test_no_other_kind_has_figures(install: Install) -> None:
    code = METRIC.format(module="acme_rows", figure="draw").replace("MetricConfig", LossConfig.__name__)
    install("acme", "acme_rows:spec", code, kind="loss", name="rows")
    with pytest.raises(BrokenPluginError, match="it names the figure 'acme_rows:draw', which metrics alone have"):
        Registry.installed().spec("loss", "acme:rows")
