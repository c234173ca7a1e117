"""Folders of runs and config files that strangers wrote: what they may have read, and how they are refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

import mvcore
from mvcore import config as configs, runs
from mvcore.cli import main
from mvcore.data.schema import Schema
from mvcore.errors import ConfigError, DataError, ModelFileError, MvcoreError

SCHEMA = Schema.from_shapes({"a": (3,), "b": (2,)})
TABLE = "id,x,y,z\n" + "".join(f"p{i},{i},{i * i % 7},{-i}\n" for i in range(20))


def tables(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "a.csv").write_text(TABLE)
    (folder / "b.csv").write_text(TABLE)
    return folder


def run_of(folder: Path, data: object) -> Path:
    """A run whose config names some data."""
    folder.mkdir(parents=True)
    text = json.dumps({"data": {"folder": data, "train": 0.5}, "model": {"use": "multimodal"}})
    (folder / "config.json").write_text(text)
    return folder


def test_data_beside_a_run_and_below_the_current_folder_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tables(tmp_path / "project/tables")
    for data in ("project/tables", str(tmp_path / "project/tables"), "project/../project/tables"):
        rows = runs.data_of(run_of(tmp_path / "elsewhere" / data.replace("/", "_"), data))
        assert (len(rows.train), len(rows.test or ())) == (10, 10)
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert len(runs.data_of(run_of(tmp_path / "project/run", str(tmp_path / "project/tables"))).train) == 10
    monkeypatch.chdir(tmp_path / "project")
    assert len(runs.data_of(run_of(tmp_path / "project/runs/usual", "tables")).train) == 10


@pytest.mark.parametrize("how", ["absolute", "up", "link", "home"])
def test_data_elsewhere_are_read_only_where_the_user_names_them(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tables(tmp_path / "home/private")
    for name in ("home/project/downloads", "other"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "home" if how == "home" else tmp_path / "home/project")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home/project/shortcut").symlink_to(secret)
    data = {"absolute": str(secret), "up": "../private", "link": "shortcut", "home": "private"}[how]
    run = run_of(tmp_path / "home/project/downloads/run", data)
    with pytest.raises(DataError, match=r"nothing was read.*--data"):
        runs.data_of(run)
    assert len(runs.data_of(run, secret).train) == 10


@pytest.mark.parametrize("folder", [False, True])
def test_a_link_out_of_the_data_of_a_run_is_not_followed(
    folder: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, secret = tmp_path / "work", tables(tmp_path / "secret")
    work.mkdir()
    monkeypatch.chdir(work)
    data = tables(work / "data")
    (data / "more.csv").symlink_to(data / "a.csv")
    run = run_of(work / "runs" / "one", str(data))
    assert runs.data_of(run).train.schema.names == ("a", "b", "more")
    (data / ("deep" if folder else "more2.csv")).symlink_to(secret if folder else secret / "a.csv")
    with pytest.raises(DataError, match=r"is a link to .*secret.*--data"):
        runs.data_of(run)


@pytest.mark.parametrize("data", [5, None, "", "\0", "a\0b", "x" * 10_000, ["tables"], {"a": 1}])
def test_data_that_are_no_folder_are_told(data: Any, tmp_path: Path) -> None:
    with pytest.raises(MvcoreError):
        runs.data_of(run_of(tmp_path / "run", data))


def test_a_model_given_to_evaluate_is_one_sentence(tmp_path: Path) -> None:
    torch.manual_seed(0)
    folder = mvcore.save(mvcore.create("multimodal", SCHEMA), tmp_path / "model")
    result = CliRunner().invoke(main, ["evaluate", str(folder)])
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert "is a saved model, which knows no data; give the folder of its run" in result.output
    assert len(result.output.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is damaged"),
        ("[" * 100_000, "is damaged"),
        ('{"data": {}, "data": {}}', "'data' stands twice"),
        ('{"data": {"seed": 1e999}}', "is damaged"),
        ('{"data": 5, "model": {}}', "is another's"),
        ("[]", "is another's"),
        ('{"model_type": "bert"}', "is another's"),
    ],
)
def test_a_run_whose_config_is_damaged_or_anothers_is_told(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelFileError, match=message):
        runs.data_of(tmp_path)


def test_a_run_with_a_pipe_or_link_for_a_config_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(ModelFileError, match="no regular file"):
        runs.data_of(tmp_path)
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").symlink_to("/dev/zero")
    with pytest.raises(ModelFileError, match="is a link"):
        runs.data_of(tmp_path)


def test_a_model_that_is_a_link_out_of_its_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    mvcore.save(mvcore.create("multimodal", SCHEMA), tmp_path / "model")
    (tmp_path / "run/model").symlink_to(tmp_path / "model")
    with pytest.raises(ModelFileError, match="is a link"):
        runs.model_folder(tmp_path / "run")
    assert runs.model_folder(tmp_path / "model") == tmp_path / "model"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = " + "[" * 100_000 + "]" * 100_000, "more than 64 deep"),
        ("a = " + "{a = " * 1_000 + "1" + "}" * 1_000, "more than 64 deep"),
        ("a" + ".a" * 100_000 + " = 1", "more than 64 deep"),
        ("[a" + '." , "' * 1_000 + "]", "more than 64 deep"),
        ("[data]\n[model" + ".a" * 70 + "]", "more than 64 deep"),
        ("#" * (5 * 2**20), "more than 4,194,304 bytes"),
        ("a = '\0'", "line 1"),
        ("[data]\nuse = 5\n[model]", "data: expected|use: expected the name of a dataset"),
        ("[data]\nuse = 'miniacc'\n[model]\nuse = 5", "expected the name of a model, got 5"),
        ("[data]\nuse = 'miniacc'\n[model]\nname = 'x'", "name: unknown key"),
        ("[data]\nuse = 'miniacc'\n[model]\ndata = 'x'", "data: unknown key"),
        (
            "[data]\nuse = 'miniacc'\n[model]\nlatent_dim = 9223372036854775808",
            "model.latent_dim: an integer of more than 64 bits",
        ),
        (
            "[data]\nuse = 'miniacc'\n[model]\nlatent_dim = 0x" + "f" * 100_000,
            "model.latent_dim: an integer of more than 64 bits",
        ),
        ("[data]\nuse = 'miniacc'\n[model]\n[training]\nlr = 1e999", "lr: expected a finite float"),
        (
            "[data]\nuse = 'miniacc'\n[model]\n[training]\nseed = 99999999999999999999",
            "seed: an integer of more than 64 bits",
        ),
        ("[data]\nuse = 'miniacc'\nseed = -99999999999999999999\n[model]", "seed: an integer of more than 64 bits"),
    ],
)
def test_toml_is_read_strictly(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        runs.train(tmp_path / "c.toml", tmp_path / "run", progress=False)
    assert len(str(caught.value)) < 10_000
    assert not (tmp_path / "run").exists()


def test_keys_with_dots_in_quotes_numbers_and_texts_are_no_deep_keys(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(f'x = "{"a." * 100}"\n"{"b." * 100}" = [{"0.5, " * 100}]\n')
    assert configs.read_toml(tmp_path / "c.toml") == {"x": "a." * 100, "b." * 100: [0.5] * 100}


def test_values_nested_too_deep_are_told() -> None:
    value: Any = []
    table: Any = {}
    for _ in range(100_000):
        value, table = [value], {"loss": table}
    for fields in ({"latent_dim": value}, {"loss": table}, {"modalities": {"a": {"encoder": value}}}):
        with pytest.raises(ConfigError, match="more than 64 deep"):
            mvcore.create("multimodal", SCHEMA, **fields)


@pytest.mark.parametrize("name", [5, None, ["multimodal"], b"multimodal"])
def test_a_name_that_is_no_text_is_told(name: Any) -> None:
    with pytest.raises(ConfigError, match="expected the name of a model"):
        mvcore.create(name, SCHEMA)
    with pytest.raises(ConfigError, match="expected the name of a dataset"):
        mvcore.dataset(name)


@pytest.mark.parametrize("data", [5, None, {"a": (3,)}, "miniacc"])
def test_a_model_for_what_is_no_data_is_told(data: Any) -> None:
    with pytest.raises(DataError, match="Expected a data set or its schema"):
        mvcore.create("multimodal", data)
