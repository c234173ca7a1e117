"""One trial in two processes: the same loss as in one, under one noise for all rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mvcore.sweeps import Sweep

pytestmark = pytest.mark.ray
HOOK = """
    import mvcore
    from mvcore.testing import fixed_noise

    class Noise:
        @mvcore.hookimpl
        def mvcore_fit_start(self):
            self.noise = fixed_noise()
            self.noise.__enter__()

        @mvcore.hookimpl
        def mvcore_fit_end(self):
            self.noise.__exit__(None, None, None)

    noise = Noise()
"""
DRIVER = """
import json, sys
from mvcore.sweeps.sweep import sweep
if __name__ == "__main__":
    sweep(json.loads(open(sys.argv[1]).read()), out=sys.argv[2], progress=False)
"""


def test_a_trial_of_two_workers_has_the_loss_of_one(tables: Any, tmp_path: Path, zoo: Path) -> None:
    """Installed hooks put the noise in every process; a Ray of its own sees them."""
    site = tmp_path / "site"
    info = site / "noisy-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: noisy\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[mvcore.hooks]\nnoise = noisy:noise\n")
    lines = [line.removeprefix("    ") for line in HOOK.splitlines()]
    (site / "noisy.py").write_text("\n".join(lines))
    (tmp_path / "driver.py").write_text(DRIVER)
    path = os.pathsep.join([str(site), os.environ["PYTHONPATH"]])
    settings = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    space = {"model": {"plugin": {"sweet": {}}}, "training.lr": {"choice": [1e-3]}}  # sweet has no modality dropout
    found = {}
    for workers in (1, 2):
        given = tables(
            space, search="grid", trials=None, report_epochs=2, address="local" if workers == 2 else "here",
            resources={"cpu": 0.5, "workers": workers},
        )  # fmt: skip
        (tmp_path / "tables.json").write_text(json.dumps(given))
        out = tmp_path / f"out{workers}"
        command = [sys.executable, str(tmp_path / "driver.py"), str(tmp_path / "tables.json"), str(out)]
        done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=280, check=False)
        assert done.returncode == 0, done.stderr
        assert Sweep.of(out).failures == {}
        history = json.loads((out / "trials/0000/history.json").read_text())
        assert [report.epoch for report in Sweep.of(out).records[0].reports] == [2, 4]
        found[workers] = [row["loss"] for row in history]
    assert found[1] == pytest.approx(found[2], rel=1e-4)
    assert found[1][-1] < found[1][0] - 1  # under one noise a model that learned nothing would keep its loss


def test_the_rows_of_a_sweep_share_the_memory_that_they_were_sent_in() -> None:
    import numpy as np
    import torch

    import mvcore
    from mvcore.runs.run import RunData
    from mvcore.sweeps.packing import pack, unpack

    data = mvcore.mcar(mvcore.dataset("miniacc"), 0.3, seed=1)
    packed = pack(RunData(train=data, validation=data.select(range(5)), test=None))
    for array in packed["train"]["x"].values():
        array.setflags(write=False)
    rows = unpack(packed)  # a warning would be an error
    assert rows.test is None
    assert rows.train.schema == data.schema
    assert torch.equal(rows.train.observed, data.observed)
    for name in data.schema.names:
        assert torch.equal(rows.train.batch().x[name], data.batch().x[name])
        assert np.shares_memory(rows.train.batch().x[name].numpy(), packed["train"]["x"][name])
    assert rows.validation is not None
    assert len(rows.validation) == 5
