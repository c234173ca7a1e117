"""Each metric's figure shows the values of a report, and is none where the report has none of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from mvcore.evaluation.report import Report
from mvcore.plugins.registry import Registry

HAVE = ["coherence", "conditional_log_likelihood", "imputation", "interval_coverage", "linear_probe"]


def drawn(name: str, values: Mapping[str, float]) -> Any:
    """The figure of one of the core's metrics."""
    draw = Registry.installed().spec("metric", f"mvcore:{name}").drawer()
    assert draw is not None
    return draw(Report(values=values, skipped={}, about={}))


@pytest.mark.parametrize("name", HAVE)
def test_a_report_without_values_of_the_metric_has_no_figure_of_it(name: str) -> None:
    others = {"log_likelihood": -3.0, "reconstruction/a/mse": 1.0, f"{name}s/1_inputs": 0.5}
    assert drawn(name, others) is None


def test_the_probe_has_a_bar_for_each_number_of_inputs() -> None:
    values = {"linear_probe/observed": 0.6, "linear_probe/1_inputs": 0.5, "linear_probe/2_inputs": 0.75}
    (axes,) = drawn("linear_probe", values).axes
    assert [bar.get_height() for bar in axes.patches] == [0.5, 0.75]


def test_lines_of_coverage_rise_with_the_level_whatever_the_order() -> None:
    values = {"interval_coverage/a/0.9": 0.8, "interval_coverage/a/0.5": 0.4, "interval_coverage/b/0.5": 0.6}
    (axes,) = drawn("interval_coverage", values).axes
    lines = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}
    assert lines == {"exact": ([0, 1], [0, 1]), "a": ([0.5, 0.9], [0.4, 0.8]), "b": ([0.5], [0.6])}


def test_the_bars_of_imputation_are_the_model_and_its_baselines_and_stop_below_useless() -> None:
    scores = {"": 0.5, "/ridge": 0.4, "/neighbours": -9.0, "/mean": 0.0}
    values = {f"imputation/{m}{end}": score for m in ("a", "b/c") for end, score in scores.items()}
    (axes,) = drawn("imputation", {**values, "imputation/a/given/b": 0.9}).axes
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([0.5, 0.5, 0.4, 0.4, -0.1, -0.1, 0.0, 0.0])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b/c"]
    (alone,) = drawn("imputation", {"imputation/a": 0.6}).axes  # baselines = false
    assert [bar.get_height() for bar in alone.patches] == [0.6]


def test_each_target_has_its_own_panel_of_estimates() -> None:
    values = {f"conditional_log_likelihood/{m}/{kind}": v for m, v in (("a", -3.0), ("b", -1.5))
              for kind in ("predictive", "ratio")}  # fmt: skip
    panels = drawn("conditional_log_likelihood", values).axes
    assert [(ax.get_title(), list(ax.lines[0].get_ydata())) for ax in panels] == [
        ("a", [-3.0, -3.0]), ("b", [-1.5, -1.5]),
    ]  # fmt: skip
    assert [label.get_text() for label in panels[0].get_xticklabels()] == ["predictive", "ratio"]


def test_coherence_is_drawn_by_inputs_and_by_target_beside_a_guess() -> None:
    values = {"coherence/1_inputs": 0.5, "coherence/2_inputs": 0.75, "coherence/agreement/1_inputs": 0.25,
              "coherence/to/a": 0.9, "coherence/to/b": 0.3, "coherence/random": 0.1}  # fmt: skip
    left, right = drawn("coherence", values).axes
    assert [bar.get_height() for bar in left.patches] == [0.5, 0.75, 0.25]
    assert [bar.get_width() for bar in right.patches] == [0.9, 0.3]
    assert list(left.lines[0].get_ydata()) == [0.1, 0.1]
