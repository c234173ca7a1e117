"""MoPoE on real data, and the example of its README."""

from __future__ import annotations

from pathlib import Path

import pytest

import mvcore
from mvcore.testing.examples import check_mfeat, run_examples


def test_mfeat_with_a_third_of_the_views_missing() -> None:
    scores = check_mfeat(lambda data: mvcore.create("mopoe", data, latent_dim=20))
    assert len(scores) == 7


def test_the_example_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = run_examples(Path(__file__).parents[1] / "README.md")
    assert names["filled"].shape == (400, 240)
