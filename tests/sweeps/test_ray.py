"""Sweeps on Ray: what runs at once, dies, is stopped and goes on ends as it would have alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mvcore.errors import ConfigError
from mvcore.sweeps import Sweep
from mvcore.sweeps.sweep import sweep

pytestmark = pytest.mark.ray
LR = {"training.lr": {"float": [1e-3, 1e-2], "log": True}}
MODELS = {"model": {"plugin": {"sweet": {"loss.beta": {"float": [0.1, 3.0]}}, "sour": {}}}}


def swept(given: dict[str, Any], out: Path) -> Sweep:
    return sweep(given, out=out, progress=False)


def values(found: Sweep) -> list[Any]:
    return [(r.number, r.status, r.answers, [(e.epoch, e.values) for e in r.reports]) for r in found.records]


def test_trials_on_ray_equal_those_of_this_process(tables: Any, tmp_path: Path, ray_cluster: Any) -> None:
    """So equal seeds give equal trials, and processes that are used again equal fresh ones: here each has its own."""
    random = tables({**MODELS, **LR}, trials=5, report_epochs=2)
    grid = tables({"training.seed": {"int": [0, 1]}, **MODELS_ALONE}, search="grid", trials=None)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    for name, given in (("random", random), ("grid", grid)):
        here = values(swept(given, tmp_path / name))
        given["sweep"]["address"] = "local"
        there = swept(given, tmp_path / f"{name}-ray")
        assert values(there) == here
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert not list((tmp_path / "random-ray/trials").glob(".tune*"))


MODELS_ALONE = {"model": {"plugin": {"sweet": {}, "sour": {}}}}


def test_a_trial_whose_process_dies_or_raises_goes_on_from_its_checkpoint(
    tables: Any, tmp_path: Path, ray_cluster: Any
) -> None:
    flag = tmp_path / "flag"  # of the two that may die the first one does, once
    calm = {"model": {"plugin": {"trouble": {"how": "none"}}}, "training.seed": {"choice": [0]}}
    whole = swept(tables(calm, search="grid", trials=None, report_epochs=1), tmp_path / "whole")
    trouble = {"how": {"choice": ["die", "raise"]}, "step": {"choice": [9, 1]}, "flag": str(flag)}
    given = tables(
        {"model": {"plugin": {"trouble": trouble}}}, search="grid", trials=None, report_epochs=1, address="local",
        retries=1,
    )  # fmt: skip
    found = swept(given, tmp_path / "out")
    assert flag.exists()
    scores = [(e.epoch, e.values) for e in whole.records[0].reports]
    how = {(r.answers["model[trouble].how"], r.answers["model[trouble].step"]): r for r in found.records}
    for goes_on in (("die", 9), ("die", 1), ("raise", 9)):
        assert [(e.epoch, e.values) for e in how[goes_on].reports] == scores
    # four steps an epoch: who begins anew makes a ninth step again
    assert how["raise", 1].status == "failed"  # it raises at the first step of each try
    assert found.failures == {how["raise", 1].number: "RuntimeError: a fault of the plugin"}


def test_asha_stops_trials_and_the_code_after_the_last_epoch_of_the_others_runs(
    tables: Any, tmp_path: Path, ray_cluster: Any
) -> None:
    # a rate of 1e-7 learns nothing: after two epochs such trials are behind those that learn
    space = {"training.lr": {"choice": [1e-2, 9e-3, 1e-7, 1.1e-7, 1.2e-7, 1.3e-7]}}
    given = tables(
        space, training={"epochs": 8}, search="grid", trials=None, scheduler="asha", report_epochs=2, address="local",
        concurrent=1,
    )  # fmt: skip
    found = swept(given, tmp_path / "out")
    status = [record.status for record in found.records]
    assert status[:2] == ["finished", "finished"] or status[0] == "finished"
    assert status.count("stopped") >= 3
    for record in found.records:
        assert record.last is not None
        assert (tmp_path / f"out/trials/{record.number:04d}/history.json").exists() == (record.status == "finished")
        assert record.last.epoch == 8 if record.status == "finished" else record.last.epoch < 8
    assert found.best is not None
    assert found.best.answers["training.lr"] >= 9e-3
    assert values(swept(given, tmp_path / "out")) == values(found)  # all have ended, the stopped ones too


DRIVER = """
import json, sys
from mvcore.sweeps.sweep import sweep
if __name__ == "__main__":
    sweep(json.loads(open(sys.argv[1]).read()), out=sys.argv[2], progress=False)
"""


def test_a_killed_driver_goes_on_with_other_resources(tables: Any, tmp_path: Path) -> None:
    """The driver has a Ray of its own, which dies with it."""
    steps = tmp_path / "steps"
    trouble = {"how": "write", "flag": str(steps)}
    space = {"model": {"plugin": {"trouble": trouble}}, "training.seed": {"int": [0, 3]}}
    options = {"search": "grid", "trials": None, "report_epochs": 1, "training": {"epochs": 6}}
    whole = swept(tables(space, **options), tmp_path / "whole")
    steps_of_whole = len(steps.read_text().splitlines())
    steps.write_text("")
    (tmp_path / "driver.py").write_text(DRIVER)

    def run(cpu: float) -> subprocess.Popen[bytes]:
        given = tables(space, address="local", resources={"cpu": cpu}, **options)
        (tmp_path / "tables.json").write_text(json.dumps(given))
        command = [sys.executable, str(tmp_path / "driver.py"), str(tmp_path / "tables.json"), str(tmp_path / "out")]
        with (tmp_path / "log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})

    driver = run(1)
    try:
        wait_for(lambda: len(list((tmp_path / "out/trials").glob("*/outcome.json"))) >= 1, driver, tmp_path / "log")
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    ended = {path.parent.name: path.read_bytes() for path in (tmp_path / "out/trials").glob("*/outcome.json")}
    assert 1 <= len(ended) < 4
    again = run(0.5)
    assert again.wait(120) == 0, (tmp_path / "log").read_text()
    found = Sweep.of(tmp_path / "out")
    assert [(e.epoch, e.values) for r in found.records for e in r.reports[-1:]] == [
        (e.epoch, e.values) for r in whole.records for e in r.reports[-1:]
    ]
    for number, outcome in ended.items():  # what had ended was left alone
        assert (tmp_path / f"out/trials/{number}/outcome.json").read_bytes() == outcome
    # of those under way an epoch at most is made again: checkpoints are made at its end
    assert len(steps.read_text().splitlines()) <= steps_of_whole + 3 * (steps_of_whole // 24)


def wait_for(condition: Any, process: subprocess.Popen[bytes], log: Path) -> None:
    began = time.monotonic()
    while not condition():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() - began < 90, log.read_text()
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("sweep_table", "message"),
    [
        ({"resources": {"cpu": 64}}, "resources.cpu: a trial asks for 64, and Ray has 2"),
        ({"resources": {"gpu": 1}}, "resources.gpu: a trial asks for 1, and Ray has 0"),
        ({"resources": {"cpu": 2, "workers": 2}}, "resources.cpu: a trial asks for 2 for each of 2 workers"),
    ],
)
def test_more_than_there_is_is_refused(
    sweep_table: Any, message: str, tables: Any, tmp_path: Path, ray_cluster: Any
) -> None:
    with pytest.raises(ConfigError, match=message):
        swept(tables(LR, address="local", **sweep_table), tmp_path / "out")
    assert not list((tmp_path / "out/trials").glob("*")) if (tmp_path / "out/trials").exists() else True


def test_population_based_training_goes_on_from_better_trials(tables: Any, tmp_path: Path, ray_cluster: Any) -> None:
    space = {"training.lr": {"choice": [1e-2, 1e-7, 2e-7, 3e-7]}, "training.schedule": "constant"}
    given = tables(
        space, training={"epochs": 8}, search="grid", trials=None, scheduler="pbt", report_epochs=2, address="local",
        resources={"cpu": 0.5},
    )  # fmt: skip
    found = swept(given, tmp_path / "out")
    assert [record.status for record in found.records] == ["finished"] * 4
    rates = [record.answers["training.lr"] for record in found.records]
    assert set(rates) <= {1e-2, 1e-7, 2e-7, 3e-7}
    assert all(record.last is not None and record.last.epoch == 8 for record in found.records)
    with pytest.raises(ConfigError, match="'pbt' changes learning rate, weight decay, clip_norm"):
        swept(tables({"training.seed": {"int": [0, 3]}, "training.schedule": "constant"}, scheduler="pbt",
                     report_epochs=1, address="local"), tmp_path / "none")  # fmt: skip


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere.invalid:6379", "locale", "127.0.0.1:x"])
def test_an_address_without_ray_is_refused(address: str, tables: Any, tmp_path: Path) -> None:
    from mvcore.sweeps.connection import check_address

    with pytest.raises(ConfigError, match=f"address: .*'{address}'"):
        check_address(address)


def test_pbt_changes_what_a_fork_may_differ_in_and_stays_inside_the_domain(tables: Any) -> None:
    from mvcore.sweeps.config import read
    from mvcore.sweeps.schedulers import Explores, forkable
    from mvcore.sweeps.validation import check

    space = {
        "model.loss": {"plugin": {"iwae": {"beta": {"float": [1, 2]}, "samples": {"int": [2, 5]}}}},
        "model.latent_dim": {"int": [2, 4]},
        "training.lr": {"float": [1e-3, 1e-2], "log": True},
        "training.clip_norm": {"choice": [1.0, 10.0, 100.0]},
        "training.schedule": "constant",
    }
    given = read(tables(space, scheduler="pbt", report_epochs=1, address="local"))
    plan = check(given, "here")
    answers = {
        "model.loss": "iwae", "model.loss[iwae].beta": 1.5, "model.loss[iwae].samples": 3, "model.latent_dim": 2,
        "training.lr": 9.9e-3, "training.clip_norm": 10.0,
    }  # fmt: skip
    may = ["model.loss[iwae].beta", "training.lr", "training.clip_norm"]
    assert forkable(plan, answers) == may
    told = {"trial": {"number": 3, "answers": json.dumps(answers)}}
    explored = [json.loads(Explores(given)(told)["trial"]["answers"]) for _ in range(40)]
    assert all(e[name] == answers[name] for e in explored for name in answers if name not in may)
    assert all(1 <= e["model.loss[iwae].beta"] <= 2 and 1e-3 <= e["training.lr"] <= 1e-2 for e in explored)
    assert {e["training.clip_norm"] for e in explored} == {1.0, 10.0, 100.0}
    assert any(e["training.lr"] != 9.9e-3 for e in explored)
