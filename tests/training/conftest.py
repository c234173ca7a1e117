"""A small training with partial rows, and the launcher of several processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator

import mvcore
from mvcore.data.dataset import MultimodalDataset
from mvcore.models.base import Model

Torchrun = Callable[..., str]
Fit = Callable[..., mvcore.Run]


def rows(n: int = 40, seed: int = 0) -> MultimodalDataset:
    """Two tables, a third of the rows without the second."""
    rng = np.random.default_rng(seed)
    arrays = {"a": rng.normal(size=(n, 3)), "b": rng.normal(size=(n, 4))}
    return MultimodalDataset(arrays, {"b": np.arange(n) % 3 > 0})


def make(**fields: Any) -> Model:
    """A small model of these rows."""
    torch.manual_seed(0)
    small = {f"modalities.{m}.{part}.hidden": [8] for m in "ab" for part in ("encoder", "decoder")}
    return mvcore.create("multimodal", rows(), **{"latent_dim": 2, **small, **fields})


@pytest.fixture
def data() -> Callable[..., MultimodalDataset]:
    """Rows of a number and a seed."""
    return rows


@pytest.fixture
def small_model() -> Callable[..., Model]:
    """A model with some fields, its weights always the same."""
    return make


@pytest.fixture
def fit() -> Fit:
    """Trains a model, for four epochs of three steps unless told otherwise."""

    def call(model: Model | None = None, **options: Any) -> mvcore.Run:
        chosen: dict[str, Any] = {"epochs": 4, "batch_size": 16, "lr": 1e-2, "schedule": "constant", "progress": False}
        chosen |= {"data": rows(), "accelerator": Accelerator(cpu=True), **options}
        return mvcore.fit(make() if model is None else model, **chosen)

    return call


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
