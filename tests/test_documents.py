"""The pages of the repository: their examples run, and what they list is what is there."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import mvcore
from mvcore.cli import main
from mvcore.data import Schema
from mvcore.plugins.registry import Registry
from mvcore.testing import StandInHub

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_examples_of_the_readme_run(
    run_examples: Callable[[Path], dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = run_examples(ROOT / "README.md")
    assert names["filled"].shape == (400, 240)
    assert names["embedding"].shape == (400, 64)
    assert names["score"].isfinite().all()
    saved = sorted(file.name for file in (tmp_path / "runs/digits").iterdir())
    assert saved == ["README.md", "config.json", "model.safetensors"]
    assert names["data"].patterns() == {("labs", "rna"): 40, ("labs",): 10}
    assert names["out"]["rna"].filled.shape == (50, 6)
    assert (names["out"]["rna"].low <= names["out"]["rna"].high).all(axis=None)
    assert not names["out"]["labs"].filled.isna().any(axis=None)
    assert names["points"].shape == (5, 64)


def test_examples_of_the_page_on_training_run(run_examples: Callable[[Path], dict[str, Any]]) -> None:
    names = run_examples(ROOT / "docs/training.md")
    assert [row["epoch"] for row in names["run"].history] == [0, 1]
    assert names["again"].history == names["run"].history


def test_examples_of_the_page_on_sharing_run(run_examples: Callable[[Path], dict[str, Any]], hub: StandInHub) -> None:
    names = run_examples(ROOT / "docs/sharing.md")
    assert names["model"].origin.commit == names["pushed"].commit
    assert "report.json" in hub.repos["ann/digits"].at().files


def test_examples_of_the_page_on_sweeps_run(run_examples: Callable[[Path], dict[str, Any]]) -> None:
    names = run_examples(ROOT / "docs/sweeps.md")
    assert len(names["found"].table) == 4
    assert not names["found"].failures
    assert names["model"].config is not None


def test_the_file_on_the_page_of_sweeps_is_a_plan(tmp_path: Path) -> None:
    known = {entry.name for entry in Registry.installed().entries("model")}
    if not {"mvtcae", "mopoe"} <= known:
        pytest.skip("the core alone has not the models of the page")
    text = (ROOT / "docs/sweeps.md").read_text(encoding="utf-8")
    (tmp_path / "sweep.toml").write_text(text.partition("```toml\n")[2].partition("```")[0])
    result = CliRunner().invoke(main, ["sweep", str(tmp_path / "sweep.toml"), "--dry-run"])
    assert result.exit_code == 0, result.output
    assert "40, chosen by optuna" in result.output


def published() -> set[str]:
    """The models of the plugins in the repository."""
    files = [tomllib.loads(path.read_text(encoding="utf-8")) for path in (ROOT / "plugins").glob("*/pyproject.toml")]
    return {name for file in files for name in file["project"]["entry-points"].get("mvcore.model", {})}


def test_the_matrix_on_the_page_of_models_is_what_their_specs_say() -> None:
    page = (ROOT / "docs/models.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\| .*\|$", page.partition("## What each model can do")[2].partition("\n## ")[0], re.MULTILINE)
    rows = {row.partition("|")[2].partition("|")[0].strip(" []").partition("]")[0]: row for row in shown[2:]}
    assert set(rows) == published() | {"multimodal"}
    computed = CliRunner().invoke(main, ["plugins", "--matrix"]).output.splitlines()
    assert shown[:2] == computed[:2]
    installed = [entry.name for entry in Registry.installed().entries("model") if entry.name in rows]
    assert "multimodal" in installed  # the core alone has no other; a model that is not there can't be compared
    for name in installed:
        assert rows[name] in computed, name


def test_models_of_multi_view_ae_are_created_as_the_page_of_models_says() -> None:
    page = (ROOT / "docs/models.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", page.partition("| multi-view-AE | here |")[2], re.MULTILINE)
    assert len(rows) == 17  # those of its configs/model_type
    schema, every = Schema.from_shapes({"a": (3,), "b": (2,)}), published()
    installed = {entry.name for entry in Registry.installed().entries("model")}
    for theirs, cell in rows:
        name, *settings = re.findall(r"`([^`]+)`", cell)
        assert name in every, theirs
        fields = {
            path.strip(): tomllib.loads(f"x = {value}")["x"] for path, _, value in (s.partition("=") for s in settings)
        }
        if every <= installed:  # alone, a plugin may lack another's component
            assert mvcore.create(name, schema, **fields).config is not None, theirs
