"""MoPoE on real data, and the examples of the documents."""

from __future__ import annotations

from pathlib import Path

import pytest

import mvcore
from mvcore.testing.examples import check_mfeat, run_examples

PLUGIN = Path(__file__).parents[1]


def test_mfeat_with_a_third_of_the_views_missing() -> None:
    scores = check_mfeat(lambda data: mvcore.create("mopoe", data, latent_dim=20))
    assert len(scores) == 7


@pytest.mark.parametrize("document", [PLUGIN / "README.md", PLUGIN.parents[1] / "README.md"], ids=["plugin", "root"])
def test_examples_of_the_readme_run(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = run_examples(document)
    assert names["filled"].shape == (400, 240)
    if "embedding" in names:  # the README of the repository
        assert names["embedding"].shape == (400, 20)
        assert names["score"].isfinite().all()
        assert sorted(file.name for file in (tmp_path / "runs/mopoe").iterdir()) == [
            "README.md",
            "config.json",
            "model.safetensors",
        ]
        assert names["data"].patterns() == {("labs", "rna"): 40, ("labs",): 10}
        assert names["out"]["rna"].filled.shape == (50, 6)
        assert (names["out"]["rna"].low <= names["out"]["rna"].high).all(axis=None)
        assert not names["out"]["labs"].filled.isna().any(axis=None)
        assert names["points"].shape == (5, 4)
