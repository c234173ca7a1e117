"""``mvcore train`` killed at random moments, alone and on two ranks: nothing is lost, nothing differs in the end.

``nox -s kills`` kills each a hundred times, the other slow tests once.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import mvcore
from mvcore.errors import ModelFileError

KILLS = int(os.environ.get("MVCORE_KILLS", "1"))
CONFIG = """
[data]
use = "miniacc"
train = 0.8

[model]
use = "multimodal"
latent_dim = 4

[training]
epochs = 12
batch_size = 8
checkpoint_steps = 2
"""
ALONE = (sys.executable, "-m", "mvcore")
TWO_RANKS = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "mvcore")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")]


def run(command: tuple[str, ...], config: Path, out: Path, killed_after: float | None = None) -> int:
    """The exit code of a training, of which all processes are killed after so many seconds unless it has ended."""
    log = out.with_suffix(".log")
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*command, "train", str(config), "--out", str(out)], stdout=file, stderr=file, start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        try:
            return process.wait(300 if killed_after is None else killed_after)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return process.wait()


def end_ranks(out: Path) -> None:
    """Kills what is left of the ranks, which torchrun starts in sessions of their own, and waits for their end."""
    while True:
        left = [p for p in Path("/proc").iterdir() if p.name.isdecimal() and bytes(out) in read(p / "cmdline")]
        if not left:
            return
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process.name), signal.SIGKILL)
        time.sleep(0.05)


def read(file: Path) -> bytes:
    """What a file of a process says; nothing if the process has ended."""
    try:
        return file.read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize("command", [ALONE, TWO_RANKS], ids=["alone", "two ranks"])
def test_a_training_killed_at_random_moments_ends_as_if_it_had_not_been(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(CONFIG)
    began = time.monotonic()
    assert run(command, config, tmp_path / "whole") == 0, (tmp_path / "whole.log").read_text()
    took, whole = time.monotonic() - began, mvcore.load(tmp_path / "whole" / "model").state_dict()

    draws, kills, number = random.Random(0), 0, 0
    while kills < KILLS:
        out, number = tmp_path / f"killed{number}", number + 1
        ended = False
        while not ended and kills < KILLS:
            code = run(command, config, out, draws.uniform(0.3, 1.0) * took)
            end_ranks(out)
            ended, killed = code == 0, code == -signal.SIGKILL
            assert ended or killed, (out.with_suffix(".log")).read_text()
            kills += killed
            try:
                mvcore.load(out / "model")
            except ModelFileError:
                assert not ended
                assert not (out / "model").exists()
        assert run(command, config, out) == 0, out.with_suffix(".log").read_text()
        assert (out / "history.json").read_bytes() == (tmp_path / "whole" / "history.json").read_bytes()
        found = mvcore.load(out / "model").state_dict()
        assert all(torch.equal(found[name], value) for name, value in whole.items())
        assert {p.name for p in out.iterdir()} == {p.name for p in (tmp_path / "whole").iterdir()}
    print(f"{kills} kills of {number} trainings")  # noqa: T201
