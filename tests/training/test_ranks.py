"""Several processes on machines without a GPU: they are joined, draw noise of their own and stop together."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

import mvcore
from mvcore.data.dataset import MultimodalDataset
from mvcore.errors import TrainingError
from mvcore.training.checkpoint import weights

Torchrun = Callable[..., str]


@pytest.fixture
def torchrun(tmp_path: Path) -> Torchrun:
    """Runs a script, or what follows ``-m``, in two processes that know no more than torchrun tells them."""

    def run(*command: object, code: int = 0) -> str:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ACCELERATE_")}
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
        done = subprocess.run(
            [*launch, *map(str, command)], cwd=tmp_path, capture_output=True, text=True, timeout=240,
            env={**environment, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        )  # fmt: skip
        assert (done.returncode == 0) == (code == 0), done.stderr[-3000:]
        return done.stdout + done.stderr

    return run


def script(folder: Path, text: str) -> Path:
    file = folder / "worker.py"
    file.write_text(HEAD + text)
    return file


HEAD = """
import sys
import mvcore, numpy as np, torch
from accelerate import PartialState
from mvcore.data.dataset import MultimodalDataset
from safetensors.torch import save_file

torch.set_num_threads(1)
rng = np.random.default_rng(0)
arrays = {m: rng.normal(size=(24, d)) for m, d in {"a": 3, "b": 4, "c": 2}.items()}
data = MultimodalDataset(arrays, {"b": np.arange(24) % 3 > 0, "c": np.arange(24) % 5 > 0})

def make(use="multimodal", **fields):
    torch.manual_seed(0)
    small = {f"modalities.{m}.{part}.hidden": [8] for m in "abc" for part in ("encoder", "decoder")}
    return mvcore.create(use, data, **{"latent_dim": 2, **small, **fields})
"""

JOINED = """
model = make()
run = mvcore.fit(model, data, epochs=2, batch_size=8, progress=False, checkpoint=sys.argv[1])
state = PartialState()
save_file(model.state_dict(), f"{sys.argv[1]}/{state.process_index}-of-{state.num_processes}.safetensors")
state.wait_for_everyone()
"""


@pytest.mark.slow
def test_processes_without_a_gpu_train_one_model(tmp_path: Path, torchrun: Torchrun) -> None:
    torchrun(script(tmp_path, JOINED), tmp_path / "run")
    first, second = (load_file(tmp_path / f"run/{rank}-of-2.safetensors") for rank in (0, 1))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    checkpoint = weights(tmp_path / "run")
    assert all(torch.equal(value, checkpoint[name]) for name, value in first.items())


WRITES = """
model = make()
model.register_buffer("seen", torch.zeros(3))

def write(model, _):
    model.seen.add_(1 + PartialState().process_index)

model.register_forward_pre_hook(write)
run = mvcore.fit(model, data, epochs=2, batch_size=8, progress=False, checkpoint=sys.argv[1], checkpoint_steps=1)
state = PartialState()
save_file({"seen": model.seen}, f"{sys.argv[1]}/{state.process_index}-of-{state.num_processes}.safetensors")
state.wait_for_everyone()
"""


@pytest.mark.slow
def test_a_buffer_that_training_writes_to_is_the_first_process_s_on_all(tmp_path: Path, torchrun: Torchrun) -> None:
    torchrun(script(tmp_path, WRITES), tmp_path / "run")
    for rank in (0, 1):
        seen = load_file(tmp_path / f"run/{rank}-of-2.safetensors")["seen"]
        assert seen.tolist() == [6, 6, 6]  # 24 rows, three batches an epoch, of two; the first process adds 1 a batch


def small_data() -> MultimodalDataset:
    rng = np.random.default_rng(0)
    return MultimodalDataset({"a": rng.normal(size=(8, 2)), "b": rng.normal(size=(8, 2))}, {"b": np.arange(8) > 3})


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"WORLD_SIZE": "2", "RANK": "0"}, "2 processes were launched, but accelerate joined 1"),
        ({"WORLD_SIZE": "2"}, "RANK, which says which"),
        ({"WORLD_SIZE": "two", "RANK": "0"}, "WORLD_SIZE is 'two'"),
        ({"WORLD_SIZE": "0", "RANK": "0"}, "WORLD_SIZE is '0'"),
    ],
)
def test_a_process_that_is_not_joined_with_the_others_is_refused(
    environment: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, accelerator = mvcore.create("multimodal", small_data(), latent_dim=2), Accelerator(cpu=True)
    monkeypatch.delenv("RANK", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for given in (accelerator, None):
        with pytest.raises(TrainingError, match=message):
            mvcore.fit(model, small_data(), epochs=1, progress=False, accelerator=given)
