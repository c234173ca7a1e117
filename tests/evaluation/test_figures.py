"""Tables, and the figures that metrics share."""

from __future__ import annotations

import sys

import pytest

import mvcore
from mvcore.errors import MissingExtraError
from mvcore.evaluation import figures
from mvcore.evaluation.report import Report, markdown


def test_a_markdown_table_is_aligned() -> None:
    table = markdown(("name", "x"), [("a", 0.12345), ("long name", 2)])
    assert table == "| name      | x     |\n|-----------|-------|\n| a         | 0.123 |\n| long name | 2     |"


def test_figures_draw_what_they_are_given() -> None:
    data = mvcore.dataset("miniacc")
    above, below = figures.patterns(data).axes
    assert [bar.get_height() for bar in above.patches] == list(data.patterns().values())
    assert [label.get_text() for label in below.get_yticklabels()] == list(data.schema.names)
    rows = [
        {"epoch": e, "loss": 3.0 - e, "validation_loss": 4.0, "kl": 1.0, "reconstruction/a": 2.0 - e} for e in range(3)
    ]
    left, right = figures.history(rows).axes
    assert list(left.lines[0].get_ydata()) == [3.0, 2.0, 1.0]
    assert list(right.lines[1].get_ydata()) == [2.0, 1.0, 0.0]


def test_bars_stand_at_the_number_of_inputs_whatever_the_order_of_the_names() -> None:
    values = {"10_inputs": 0.25, "2_inputs": 0.5, "observed": 0.75, "x_inputs": 0.1, "agreement/3_inputs": 0.2}
    assert figures.by_inputs(values) == {2: 0.5, 10: 0.25}
    assert list(figures.by_inputs(values)) == [2, 10]
    figure = figures.bars_by_inputs(values, "share")
    assert figure is not None
    (axes,) = figure.axes
    assert [(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in axes.patches] == [(2, 0.5), (10, 0.25)]
    assert (axes.get_ylabel(), [text.get_text() for text in axes.texts]) == ("share", ["0.50", "0.25"])
    assert figures.bars_by_inputs({"observed": 0.75}, "share") is None


def test_values_are_grouped_by_all_of_their_names_but_the_last_part() -> None:
    values = {"a/0.5": 0.4, "b/c/0.5": 0.3, "a/0.9": 0.8}
    assert figures.grouped(values) == {"a": {"0.5": 0.4, "0.9": 0.8}, "b/c": {"0.5": 0.3}}


def test_without_matplotlib_the_extra_is_named_and_a_report_without_figures_does_not_miss_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"mvcore\[eval\]"):
        figures.axes_of(1, 1, size=(2, 2))
    with pytest.raises(MissingExtraError, match="matplotlib"):
        Report(values={"linear_probe/1_inputs": 0.5}, skipped={}, about={}).draw()
    assert Report(values={"log_likelihood": -3.0}, skipped={}, about={}).draw() == {}
