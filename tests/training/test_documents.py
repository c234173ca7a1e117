"""The examples of the page on training run."""

from __future__ import annotations

from pathlib import Path

from mvcore.testing.examples import run_examples


def test_examples_of_the_page_on_training_run() -> None:
    names = run_examples(Path(__file__).parents[2] / "docs/training.md")
    assert [row["epoch"] for row in names["run"].history] == [0, 1]
    assert names["again"].history == names["run"].history
