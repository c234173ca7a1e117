"""DCCAE on real data, and the example of the README."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mvcore


@pytest.mark.slow
def test_mfeat_with_a_third_of_the_views_missing(check_mfeat: Callable[..., dict[str, float]]) -> None:
    scores = check_mfeat(lambda data: mvcore.create("dccae", data, latent_dim=20))
    assert len(scores) == 7


@pytest.mark.slow
def test_the_paper_s_codes_keep_the_digits_of_complete_rows(check_mfeat: Callable[..., dict[str, float]]) -> None:
    """And can't be decoded into other views, as the README says."""
    with pytest.raises(AssertionError, match="are predicted no better than by their mean"):  # the probe is fine
        check_mfeat(lambda data: mvcore.create("dccae", data, latent_dim=20, reconstruct="own"))


def test_example_of_the_readme_runs(run_examples: Callable[[Path], dict[str, Any]]) -> None:
    names = run_examples(Path(__file__).parents[1] / "README.md")
    assert names["filled"].shape == (400, 240)
    assert names["drawn"]["mor"].shape == (10, 6)
