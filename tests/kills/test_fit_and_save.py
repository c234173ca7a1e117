"""Processes killed while they train with a checkpoint after every step, and while they save: nothing is lost.

``nox -s kills`` kills each a hundred times, the other slow tests twenty times.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import mvcore
from mvcore.data import MultimodalDataset
from mvcore.models import Model
from mvcore.storage import models as files

KILLS = int(os.environ.get("MVCORE_KILLS", "20"))
TRAINING = """
import os, random, signal, sys, time
from pathlib import Path
import numpy as np, torch
torch.set_num_threads(1)
import mvcore
from mvcore.data import MultimodalDataset
from safetensors.torch import save_file

rng = np.random.default_rng(0)
data = MultimodalDataset({"a": rng.normal(size=(64, 3)), "b": rng.normal(size=(64, 4))}, {"b": np.arange(64) % 3 > 0})

def train(folder):
    torch.manual_seed(0)
    small = {f"modalities.{m}.{p}.hidden": [8] for m in "ab" for p in ("encoder", "decoder")}
    model = mvcore.create("multimodal", data, latent_dim=2, **small)
    run = mvcore.fit(
        model, data, epochs=10, batch_size=8, lr=1e-2, progress=False, validation=data, checkpoint=folder, resume=True,
        checkpoint_steps=1,
    )
    save_file(run.model.state_dict(), folder.with_suffix(".safetensors"))

def forked(folder, after=None):
    child = os.fork()
    if child == 0:
        train(folder)
        os._exit(0)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]

here, wanted = Path(sys.argv[1]), int(sys.argv[2])
begun = time.perf_counter()
assert forked(here / "whole") == 0
took, whole = time.perf_counter() - begun, (here / "whole.safetensors").read_bytes()
draws, kills, number = random.Random(0), 0, 0
while kills < wanted:
    folder, number = here / f"killed{number}", number + 1
    while kills < wanted and forked(folder, draws.uniform(0.02, 0.3) * took) != 0:
        kills += 1
    assert forked(folder) == 0
    assert folder.with_suffix(".safetensors").read_bytes() == whole
    assert sorted(f.name for f in folder.iterdir()) == ["checkpoint-before.pt", "checkpoint.pt"]
print(kills, "kills of", number, "trainings")
"""

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")]


def test_a_training_killed_at_random_points_ends_with_the_same_weights(tmp_path: Path) -> None:
    """Killed between and inside steps and saves: it checkpoints after every step, so it is often writing one."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", TRAINING, str(tmp_path), str(KILLS)],
        env=environment, capture_output=True, text=True, timeout=60 + 20 * KILLS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    print(f"fit: {done.stdout.splitlines()[-1]}")  # noqa: T201


def small() -> Model:
    rng = np.random.default_rng(0)
    data = MultimodalDataset(
        {"a": rng.normal(size=(20, 3)), "b": rng.normal(size=(20, 4))}, {"b": np.arange(20) % 3 > 0}
    )
    torch.manual_seed(0)
    model = mvcore.create("multimodal", data, latent_dim=3)
    model.fit_transforms(data)
    return model


def save_and_die(model: Model, target: Path, seconds: float) -> None:
    """A process that saves a model again and again, and is killed after some seconds."""
    child = os.fork()
    if not child:
        try:
            while True:
                mvcore.save(model, target)
        finally:
            os._exit(1)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_process_killed_while_saving_leaves_the_old_or_the_new_model(
    can_exchange: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not can_exchange:  # a system that can't exchange two folders in one step
        monkeypatch.setattr(files, "exchange", lambda first, second: False)
    model, target = small(), tmp_path / "model"
    mvcore.save(model, target)
    began = time.perf_counter()
    mvcore.save(model, target)
    took = time.perf_counter() - began
    old = mvcore.load(target).state_dict()
    trained = [name for name, _ in model.named_parameters()]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.5)
    kept = 0
    for seconds in torch.rand(KILLS, generator=torch.Generator().manual_seed(3)).mul(4 * took).tolist():
        save_and_die(model, target, seconds)
        found = mvcore.load(target).state_dict()
        is_old = all(torch.equal(found[name], old[name]) for name in trained)
        assert is_old or all(bool((found[name] == 0.5).all()) for name in trained)
        kept += is_old
    print(f"save: {KILLS} kills, {kept} of them left the old model")  # noqa: T201
