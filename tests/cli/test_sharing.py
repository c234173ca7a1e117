"""Models of the Hub on the command line: what a user types, and what comes of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from click.testing import CliRunner

import mvcore
from mvcore import runs, sharing
from mvcore.cli import main
from mvcore.errors import DataError
from mvcore.models.base import Model
from mvcore.testing import StandInHub

CONFIG = """
[data]
folder = "tables"
likelihoods = { marks = "bernoulli" }
[model]
latent_dim = 2
modalities.labs.encoder.hidden = [4]
[training]
epochs = 1
"""


def run(*args: str) -> str:
    done = CliRunner().invoke(main, list(args), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "tables"
    folder.mkdir()
    frame = pd.DataFrame({"crp": range(20), "ldl": [x / 2 for x in range(20)]}, index=[f"p{i}" for i in range(20)])
    frame.astype(float).to_csv(folder / "labs.csv")
    marks = pd.DataFrame({"m": [0, 1] * 7}, index=[f"p{i}" for i in range(14)])
    marks.to_csv(folder / "marks.csv")
    return folder


@pytest.fixture
def trained(tables: Path, tmp_path: Path) -> Path:
    """The folder of a run."""
    (tmp_path / "config.toml").write_text(CONFIG)
    run("train", "config.toml", "--out", "runs/x", "--quiet")
    return tmp_path / "runs" / "x"


def test_a_run_is_pushed_looked_at_and_used_by_its_address(hub: StandInHub, trained: Path, tmp_path: Path) -> None:
    run("evaluate", "runs/x", "--metric", "log_likelihood", "--out", "runs/x/report")
    said = run("push", "runs/x", "ann/model", "--license", "mit", "--private", "--message", "First")
    commit = hub.repos["ann/model"].branches["main"]
    assert f"Pushed: {hub.url}/ann/model/commit/{commit}" in said
    assert hub.repos["ann/model"].private
    assert hub.repos["ann/model"].at().message == "First"
    assert "log_likelihood" in hub.repos["ann/model"].at().files["report.json"].decode()  # the run's own
    card = hub.repos["ann/model"].at().files["README.md"].decode()
    assert str(tmp_path) not in card  # what is private stays here
    assert '"tables"' not in hub.repos["ann/model"].at().files["config.json"].decode()

    assert f"Nothing has changed; hf://ann/model@{commit}" in run("push", "runs/x", "ann/model")

    for command, out in [("impute", "a"), ("impute", "b")]:
        model = "hf://ann/model" if out == "a" else "runs/x"
        said = run(command, model, "tables", "--out", out)
        assert (f"The model is hf://ann/model@{commit}." in said) is (out == "a")
    assert (tmp_path / "a/marks.csv").read_bytes() == (tmp_path / "b/marks.csv").read_bytes()

    run("sample", "hf://ann/model", "--n", "3", "--out", "c")
    run("sample", "runs/x", "--n", "3", "--out", "d")
    assert (tmp_path / "c/labs.csv").read_bytes() == (tmp_path / "d/labs.csv").read_bytes()

    assert "log_likelihood" in run("evaluate", "hf://ann/model@main", "--data", "tables", "--metric", "log_likelihood")
    with pytest.raises(DataError, match="is a saved model, which knows no data; name a folder of tables by --data"):
        CliRunner().invoke(main, ["--traceback", "evaluate", "hf://ann/model"], catch_exceptions=False)
    # a training that is finished is not disturbed by the report beside it
    assert "was finished already" in run("train", "config.toml", "--out", "runs/x", "--quiet")


def test_a_saved_model_and_a_shared_one_are_evaluated_alike(hub: StandInHub, trained: Path) -> None:
    run("push", "runs/x/model", "ann/model", "--license", "mit")
    outputs = [
        json.loads(
            run("evaluate", model, "--data", "tables", "--metric", "log_likelihood", "--json", "--quiet").split(
                "\n", start
            )[-1]
        )
        for model, start in (("runs/x/model", 0), ("hf://ann/model", 1))
    ]
    assert outputs[0] == outputs[1]
    assert outputs[0]["about"]["rows"] == 20


def test_inspect_shows_the_same_of_a_folder_a_run_and_an_address(hub: StandInHub, trained: Path) -> None:
    run("push", "runs/x", "ann/model", "--license", "mit")
    found = {path: json.loads(run("inspect", path, "--json")) for path in ("runs/x", "runs/x/model", "hf://ann/model")}
    assert len({json.dumps(each["config"]) for each in found.values()}) == 1
    shared = found["hf://ann/model"]
    assert shared["where"] == f"hf://ann/model@{hub.repos['ann/model'].branches['main']}"
    content = hub.repos["ann/model"].at().files
    assert shared["sizes"] == {name: len(content[name]) for name in ("config.json", "model.safetensors", "README.md")}
    assert shared["config"]["training"]["rows"] == 16
    assert not [r for r in hub.log if r.method == "GET" and r.path.endswith("safetensors")]
    text = run("inspect", "hf://ann/model")
    for part in (
        "== files",
        "== requires",
        "== card",
        "## Modalities",
        "== schema",
        '"crp"',
        "== config",
        "latent_dim",
    ):
        assert part in text


def test_a_registered_data_set_is_named_and_a_folder_is_not(hub: StandInHub, tables: Path, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(
        '[data]\nuse = "miniacc"\ntrain = 0.7\nseed = 3\n[model]\nlatent_dim = 2\n[training]\nepochs = 1\n'
    )
    run("train", "config.toml", "--out", "runs/y", "--quiet")
    run("push", "runs/y", "ann/model", "--license", "mit")
    record = mvcore.load("hf://ann/model").record
    assert record is not None
    assert record.data == {"use": "miniacc", "train": 0.7, "seed": 3}
    assert len(runs.run_data(record.data).train) == record.rows
    card = hub.repos["ann/model"].at().files["README.md"].decode()
    assert "datasets:\n- miniacc\n" in card


def test_a_licence_is_asked_for_where_someone_can_answer(
    hub: StandInHub, tables: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mvcore.cli import push

    monkeypatch.setattr(push, "_someone_can_answer", lambda: True)
    done = CliRunner().invoke(main, ["push", "runs/x", "ann/model"], input="cc-by-4.0\n", catch_exceptions=False)
    assert "Licence, such as apache-2.0" in done.output
    assert "license: cc-by-4.0" in hub.repos["ann/model"].at().files["README.md"].decode()
    CliRunner().invoke(main, ["push", "runs/x", "ann/none"], input="\n", catch_exceptions=False)
    assert "license:" not in hub.repos["ann/none"].at().files["README.md"].decode()


def command(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "200", **env}
    code = "from mvcore.cli import main; main(prog_name='mvcore')"
    return subprocess.run(
        [sys.executable, "-c", code, *args], env=environment, text=True, capture_output=True, check=False
    )


def test_the_environment_names_the_hub_the_user_and_the_cache(
    hub: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a user runs it: processes that know only their environment."""
    torch.manual_seed(0)
    schema = mvcore.Schema.from_shapes({"a": (2,), "b": (1,)})
    model: Model = mvcore.create("multimodal", schema, latent_dim=1)
    mvcore.save(model, tmp_path / "model")
    env = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": "hf_ann", "HF_HUB_DISABLE_XET": "1"}
    done = command("push", str(tmp_path / "model"), "ann/model", "--private", "--license", "mit", **env)
    assert done.returncode == 0, done.stderr
    assert hub.repos["ann/model"].private
    done = command("inspect", "hf://ann/model", "--json", **env)
    assert json.loads(done.stdout)["config"]["schema"]["modalities"][0]["name"] == "a"
    assert list((tmp_path / "home").rglob("config.json"))
    done = command("inspect", "hf://ann/model", **{**env, "HF_HUB_OFFLINE": "1"})
    assert (done.returncode, "## Modalities" in done.stdout) == (0, True), done.stderr
    assert "== not known\nmodel.safetensors: the Hub can't be reached" in done.stdout
    done = command("inspect", "hf://ann/model", **{**env, "HF_TOKEN": "hf_wrong"})
    assert (done.returncode, "Error: hf://ann/model: the Hub does not know who asks" in done.stderr) == (1, True)


def test_help_and_what_only_looks_import_neither_torch_nor_the_hub_s_client_nor_a_plugin(tmp_path: Path) -> None:
    schema = mvcore.Schema.from_shapes({"a": (2,)})
    folder = mvcore.save(mvcore.create("multimodal", schema, latent_dim=1), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["model"]["use"], config["requires"] = "mvcore-mopoe:mopoe", ["mvcore-mopoe>=0.1"]  # installed or not
    (folder / "config.json").write_text(json.dumps(config))
    code = """
import sys
from click.testing import CliRunner
from mvcore.cli import main
done = CliRunner().invoke(main, sys.argv[1:])
assert done.exit_code == 0, done.output
bad = {"torch", "huggingface_hub", "yaml"} & set(sys.modules) | {n for n in sys.modules if n.startswith("mvcore_")}
sys.exit(f"{sys.argv[1:]} imports {sorted(bad)}" if bad else 0)
"""
    for args in (
        ["--help"],
        ["push", "--help"],
        ["inspect", "--help"],
        ["impute", "--help"],
        ["inspect", str(tmp_path / "model")],
    ):
        done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=False)
        assert not done.returncode, done.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["inspect", "hf://nobody"], "is no address of a model on the Hub"),
        (["impute", "hf://ann/x@../y", "tables", "--out", "o"], "is no address"),
        (["sample", "ann/model", "--out", "o"], "does not exist"),
        (["push", "nowhere", "ann/model"], "does not exist"),
        (["inspect", "tables"], "holds no saved model"),
    ],
)
def test_what_is_no_model_is_one_paragraph(args: list[str], message: str, tables: Path) -> None:
    done = CliRunner().invoke(main, args)
    assert done.exit_code in (1, 2)
    assert message in " ".join(done.output.split())


def test_inspect_from_python_gives_what_there_is(hub: StandInHub, trained: Path, tmp_path: Path) -> None:
    found: Any = sharing.inspect(trained / "model")
    assert (found.requires, found.report, found.where) == ((), None, str(trained / "model"))
    assert found.card.startswith("# mvcore:multimodal")
