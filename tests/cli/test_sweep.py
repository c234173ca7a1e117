"""``mvcore sweep``, as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import mvcore
from mvcore.cli import main

CONFIG = """
[data]
use = "miniacc"
validation = 0.3

[model]
latent_dim = 2

[training]
epochs = 1

[space]
"model.loss.beta" = { float = [0.1, 1.0], log = true }
"model.modalities.*.encoder.hidden" = { choice = [[4], [4, 4]] }

[sweep]
metric = { log_likelihood = "max" }
trials = 2
search = "random"
address = "here"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(CONFIG)
    return path


def test_a_sweep_of_a_file_says_what_was_best_and_goes_on(config: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mvcore", "sweep", str(config)]
    settings = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=settings, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    best = mvcore.Sweep.of(tmp_path / "sweeps/small").best
    assert best is not None
    assert f"2 trials. The best is trial {best.number}: log_likelihood" in done.stdout
    assert "Its model is in sweeps/small/best/" in done.stdout
    assert [line.split()[:2] for line in done.stderr.splitlines()] == [["0000", "finished"], ["0001", "finished"]]
    more = ["sweep", str(config), "--out", str(tmp_path / "sweeps/small"), "--set", "sweep.trials=3", "--quiet"]
    result = CliRunner().invoke(main, more)
    assert result.exit_code == 0, result.output
    assert "3 trials." in result.output
    evaluated = CliRunner().invoke(
        main,
        ["evaluate", str(tmp_path / "sweeps/small/trials/0000"), "--metric", "log_likelihood", "--json", "--quiet"],
    )
    assert evaluated.exit_code == 0, evaluated.output
    assert json.loads(evaluated.output)["about"]["rows"] == round(0.2 * len(mvcore.dataset("miniacc")))


def test_a_dry_run_shows_the_plan_and_starts_nothing(config: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["sweep", str(config), "--out", str(tmp_path / "out"), "--dry-run"])
    assert result.exit_code == 0, result.output
    assert "trials     2, chosen by random" in result.output
    assert result.output.count("model.modalities.*.encoder.hidden") == 2
    assert not (tmp_path / "out").exists()
    change = ["--set", 'space."training.epoch"={int=[1, 3]}']
    result = CliRunner().invoke(main, ["sweep", str(config), "--out", str(tmp_path / "out"), *change])
    assert result.exit_code == 1
    assert "space.training.epoch: unknown key, did you mean 'epochs'?" in result.output
    assert len(result.output.splitlines()) == 2
    assert not (tmp_path / "out").exists()
