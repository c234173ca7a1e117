"""Trainings from files, and what they leave, through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner, Result

import mvcore
from mvcore import runs
from mvcore.cli import main
from mvcore.errors import ConfigError, DataError, ModelFileError

N = 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two tables of a cohort, some patients in one only, with gaps; and a config that trains on them."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(N, 1))
    labs = pd.DataFrame(z @ rng.normal(size=(1, 3)) + 0.1 * rng.normal(size=(N, 3)), columns=["crp", "ldl", "hdl"])
    rna = pd.DataFrame(rng.poisson(np.exp(z @ rng.normal(size=(1, 4)))), columns=["g1", "g2", "g3", "g4"])
    for frame in (labs, rna):
        frame.index = [f"p{i}" for i in range(N)]
    labs.iloc[3, 1] = np.nan
    (tmp_path / "tables").mkdir()
    labs.iloc[5:].to_csv(tmp_path / "tables/labs.csv")
    rna.iloc[:-7].to_csv(tmp_path / "tables/rna.csv")
    (tmp_path / "config.toml").write_text(
        f"""
        [data]
        folder = {str(tmp_path / "tables")!r}
        likelihoods = {{ rna = "negative_binomial" }}
        train = 0.75
        validation = 0.2

        [model]
        use = "multimodal"
        latent_dim = 2
        [model.loss]
        beta = 0.5
        [model.modalities.labs.encoder]
        hidden = [8]

        [training]
        epochs = 3
        batch_size = 8
        """
    )
    return tmp_path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def done(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_cohort_goes_from_tables_to_filled_tables(folder: Path) -> None:
    assert "Trained 3 epochs" in done("train", folder / "config.toml", "--out", folder / "run", "--quiet")
    model = mvcore.load(folder / "run/model")
    assert model.config.loss.beta == 0.5
    assert model.config.modalities["labs"].encoder.hidden == (8,)
    assert model.config.modalities["rna"].encoder.hidden == (512, 512)
    history = json.loads((folder / "run/history.json").read_text())
    assert [row["epoch"] for row in history] == [0, 1, 2]
    assert all("validation_loss" in row for row in history)

    report = json.loads(done("evaluate", folder / "run", "--metric", "log_likelihood", "--json", "--quiet"))
    assert np.isfinite(report["values"]["log_likelihood"])
    done("evaluate", folder / "run", "--metric", "imputation", "--out", folder / "report")
    assert {"report.json", "report.md"} <= {file.name for file in (folder / "report").iterdir()}

    done("impute", folder / "run", folder / "tables", "--out", folder / "filled", "--interval", 0.8, "--draws", 50)
    given = pd.read_csv(folder / "tables/labs.csv", index_col=0)
    filled, low, high = (pd.read_csv(folder / f"filled/labs{end}.csv", index_col=0) for end in ("", "_low", "_high"))
    assert set(filled.index) == {f"p{i}" for i in range(N)}
    assert not filled.isna().any(axis=None)
    kept = filled.loc[given.index].where(given.notna())
    np.testing.assert_allclose(kept.to_numpy(), given.to_numpy(), rtol=1e-6)
    absent = filled.index.difference(given.index)
    assert (low.loc[absent] < high.loc[absent]).all(axis=None)

    done("sample", folder / "run", "--n", 5, "--out", folder / "drawn")
    drawn = pd.read_csv(folder / "drawn/rna.csv", index_col=0)
    assert drawn.shape == (5, 4)
    assert (drawn > 0).all(axis=None)  # means of counts


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = runs.train(folder / "config.toml", folder / "whole", progress=False)
    calls = 0
    step = torch.optim.Adam.step

    def stopping(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", stopping)
        with pytest.raises(KeyboardInterrupt):
            runs.train(folder / "config.toml", folder / "stopped", progress=False)
    assert not (folder / "stopped/model").exists()
    resumed = runs.train(folder / "config.toml", folder / "stopped", progress=False)
    assert resumed.history == whole.history
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name])


def test_registered_data_values_set_on_the_command_line_and_hidden_modalities(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('[data]\nuse = "miniacc"\nhide = 0.3\n[model]\nuse = "multimodal"\n')
    small = [
        f"model.modalities.{m}.{part}.hidden=[4]" for m in ("rna", "mirna", "cna") for part in ("encoder", "decoder")
    ]
    changes = [*small, "training.epochs=1", "model.latent_dim=3", "model.loss.use=iwae", "model.loss.samples=2"]
    flags = [flag for change in changes for flag in ("--set", change)]
    done("train", tmp_path / "c.toml", "--out", tmp_path / "run", "--quiet", *flags)
    config = mvcore.load(tmp_path / "run/model").config
    assert (config.latent_dim, type(config.loss).__name__, config.loss.samples) == (3, "IWAEConfig", 2)
    rows = runs.data_of(tmp_path / "run")
    assert (len(rows.train), len(rows.test)) == (74, 18)  # 0.8 of 92 patients
    assert not rows.train.observed.all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[data]\nuse = 'mfeat'\n[model]\nuse = 'multimodal'\n[trainin]\nepochs = 3",
            "trainin.*did you mean 'training'",
        ),
        ("[data]\nuse = 'mfeat'", "model: expected a table"),
        ("[data]\nuse = 'mfeat'\nfolder = 'x'\n[model]\nuse = 'multimodal'", "name one source"),
        ("[data]\nuse = 'mfaet'\n[model]\nuse = 'multimodal'", "mfeat"),
        ("[data]\nuse = 'mfeat'\n[model]\nuse = 'multimodl'", "multimodal"),
        ("[data]\nuse = 'mfeat'\n[model]\nuse = 'multimodal'\nlatent_dimm = 3", "did you mean 'latent_dim'"),
        ("[data]\nuse = 'mfeat'\n[model]\nuse = 'multimodal'\n[training]\nepoch = 3", "did you mean 'epochs'"),
        ("[data]\nuse = 'mfeat'\n[model]\nuse = 'multimodal'\n[training]\nepochs = 0", "epochs must be in"),
        ("[data\n", r"c\.toml"),
    ],
)
def test_a_wrong_config_is_one_clear_error_and_leaves_nothing(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.toml").write_text(text)
    result = run("train", tmp_path / "c.toml", "--out", tmp_path / "run", "--quiet")
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert "Traceback" not in result.output
    with pytest.raises((ConfigError, mvcore.errors.MvcoreError), match=message):
        runs.train(tmp_path / "c.toml", tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_tables_that_do_not_fit_and_full_folders_are_refused(folder: Path) -> None:
    done("train", folder / "config.toml", "--out", folder / "run", "--quiet")
    again = done("train", folder / "config.toml", "--out", folder / "run", "--quiet")
    assert "finished" in again  # the same command once more is a success that says so
    before = {p.name: p.read_bytes() for p in (folder / "run").iterdir() if p.is_file()}
    with pytest.raises(ModelFileError, match=r"holds a run of another config: \[training\] differ"):
        runs.train(folder / "config.toml", folder / "run", ["training.epochs=7"])
    assert before == {p.name: p.read_bytes() for p in (folder / "run").iterdir() if p.is_file()}
    (folder / "mine").mkdir()
    (folder / "mine/config.json").write_text('{"theme": "dark"}')
    (folder / "mine/notes.txt").write_text("mine")
    with pytest.raises(ModelFileError, match=r"holds 'notes.txt', which no run leaves"):
        runs.train(folder / "config.toml", folder / "mine")
    (folder / "mine/notes.txt").unlink()
    with pytest.raises(ModelFileError, match="is not the folder of a run"):
        runs.train(folder / "config.toml", folder / "mine")
    assert (folder / "mine/config.json").read_text() == '{"theme": "dark"}'
    labs = pd.read_csv(folder / "tables/labs.csv", index_col=0)
    (folder / "new").mkdir()
    labs.drop(columns="crp").to_csv(folder / "new/labs.csv")
    result = run("impute", folder / "run", folder / "new", "--out", folder / "out")
    assert result.exit_code == 1
    assert "lacks the columns 'crp'" in result.output
    assert not (folder / "out").exists()
    result = run("impute", folder / "run", folder / "tables", "--out", folder / "tables")
    assert "holds something already" in result.output
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match="has no table"):
        runs.read_tables(folder / "empty")


def test_tables_of_any_name_are_written_inside_the_folder_that_was_asked_for(tmp_path: Path) -> None:
    frames = {m: pd.DataFrame({"u": [0.5, 1.0, 2.0]}, index=["p", "q", "r"]) for m in ("a/b", "x", "x_low")}
    data = mvcore.from_frames(frames)
    model = mvcore.create("multimodal", data, latent_dim=2)
    model.fit_transforms(data)
    mvcore.save(model, tmp_path / "model")
    done("sample", tmp_path / "model", "--n", 2, "--out", tmp_path / "drawn")
    assert sorted(file.name for file in (tmp_path / "drawn").iterdir()) == ["a%2Fb.csv", "x.csv", "x_low.csv"]
    (tmp_path / "tables").mkdir()
    frames["x"].to_csv(tmp_path / "tables/x.csv")
    done("impute", tmp_path / "model", tmp_path / "tables", "--out", tmp_path / "filled", "--draws", 9)
    result = run("impute", tmp_path / "model", tmp_path / "tables", "--out", tmp_path / "limits", "--interval", 0.5)
    assert "Two tables would be called 'x_low.csv'" in result.output
    assert not (tmp_path / "limits").exists()
