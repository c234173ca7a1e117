"""Processes killed while they train with a checkpoint after every step, and while they save: nothing is lost.

``nox -s kills`` kills each a hundred times, the other slow tests twenty times.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
    while kills < wanted and forked(folder, draws.uniform(0.1, 0.9) * took) != 0:
        kills += 1
    assert forked(folder) == 0
    assert folder.with_suffix(".safetensors").read_bytes() == whole
    assert sorted(f.name for f in folder.iterdir()) == ["checkpoint-before.pt", "checkpoint.pt"]
print(kills, "kills of", number, "trainings")
"""

# One thread each: a process that is forked off one with a pool of threads waits for them for ever.
SAVING = """
import os, random, shutil, signal, sys, time
from pathlib import Path
import numpy as np, torch
torch.set_num_threads(1)
import mvcore
from mvcore.data import MultimodalDataset
from mvcore.storage import models as files

rng = np.random.default_rng(0)
data = MultimodalDataset({"a": rng.normal(size=(20, 3)), "b": rng.normal(size=(20, 4))}, {"b": np.arange(20) % 3 > 0})
torch.manual_seed(0)
model = mvcore.create("multimodal", data, latent_dim=3)
model.fit_transforms(data)
target, kills = Path(sys.argv[1]) / "model", int(sys.argv[2])
if sys.argv[3] == "0":  # a system that can't exchange two folders in one step
    files.exchange = lambda first, second: False
mvcore.save(model, target)
begun = time.perf_counter()
mvcore.save(model, target)
took = time.perf_counter() - begun
trained = [name for name, _ in model.named_parameters()]

def write(value):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)

def is_all(value):
    found = mvcore.load(target).state_dict()
    return all(bool((found[name] == value).all()) for name in trained)

draws, new = random.Random(3), 0
for kill in range(kills):
    write(kill)
    mvcore.save(model, target)
    write(kill + 0.5)
    child = os.fork()
    if not child:
        try:
            while True:
                mvcore.save(model, target)
        finally:
            os._exit(1)
    time.sleep(draws.uniform(0, 3) * took)
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    left_new = is_all(kill + 0.5)
    assert left_new or is_all(kill), kill
    new += left_new
assert 0 < new < kills or kills < 10, new
others = [p.name for p in target.parent.iterdir() if p != target]  # what a save a day later removes
assert all(name.startswith(".model.mvcore-") for name in others), others
print(f"{kills} kills, {new} of them left the new model")
"""

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")]


def test_a_training_killed_at_random_points_ends_with_the_same_weights(tmp_path: Path) -> None:
    """Killed between and inside steps and saves: it checkpoints after every step, so it is often writing one."""
    print(f"fit: {python(TRAINING, str(tmp_path), str(KILLS))}")  # noqa: T201


def test_a_process_killed_while_saving_leaves_the_old_or_the_new_model(tmp_path: Path) -> None:
    for can_exchange in (True, False):
        done = python(SAVING, str(tmp_path), str(KILLS), str(int(can_exchange)))
        print(f"save: {done}")  # noqa: T201


def python(script: str, *arguments: str) -> str:
    """The last line that a script prints in an interpreter of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=environment, capture_output=True, text=True, timeout=60 + 20 * KILLS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()[-1]
