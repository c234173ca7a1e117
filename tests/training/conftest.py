"""What the tests of several processes share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Torchrun = Callable[..., str]


@pytest.fixture
def torchrun(tmp_path: Path) -> Torchrun:
    """Starts two processes as a user does on a machine without a GPU, and returns what they print."""

    def run(*arguments: str | Path, script: str | None = None) -> str:
        if script is not None:
            (tmp_path / "worker.py").write_text(script)
            arguments = (tmp_path / "worker.py", *arguments)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ACCELERATE_")}
        done = subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *map(str, arguments)],
            env={**kept, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
            cwd=tmp_path, capture_output=True, text=True, timeout=240,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run
