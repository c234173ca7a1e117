"""MHVAE on real data, and the example of the README."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mvcore


@pytest.mark.slow
def test_mfeat_with_a_third_of_the_views_missing(check_mfeat: Callable[..., dict[str, float]]) -> None:
    scores = check_mfeat(lambda data: mvcore.create("mhvae", data, subsets="sampled"), lr=3e-3)
    assert len(scores) == 7


def test_example_of_the_readme_runs(run_examples: Callable[[Path], dict[str, Any]]) -> None:
    names = run_examples(Path(__file__).parents[1] / "README.md")
    assert names["filled"].shape == (400, 240)
    assert names["score"].isfinite().all()
    assert names["drawn"]["fou"].shape == (4, 76)
