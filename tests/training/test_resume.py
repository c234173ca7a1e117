"""Interrupted trainings: gone on with, they end as if nothing had happened, bit by bit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator

import mvcore
from mvcore.data.dataset import MultimodalDataset
from mvcore.errors import CheckpointError, TrainingError
from mvcore.models.base import Model, Stage
from mvcore.testing.interruption import Stop, StopAfter
from mvcore.training.hooks import hookimpl


def toy(n: int = 40, seed: int = 0) -> MultimodalDataset:
    rng = np.random.default_rng(seed)
    arrays = {"a": rng.normal(size=(n, 3)), "b": rng.normal(size=(n, 4))}
    return MultimodalDataset(arrays, {"b": np.arange(n) % 3 > 0})


def make(**fields: Any) -> Model:
    torch.manual_seed(0)
    small = {f"modalities.{m}.{part}.hidden": [8] for m in "ab" for part in ("encoder", "decoder")}
    model = mvcore.create("multimodal", toy(), **{"latent_dim": 2, **small, **fields})
    stages = [Stage("first", 1.0), Stage("second", 1.0, frozen=(model.encoders,))]
    model.stages = lambda: stages  # type: ignore[method-assign, assignment]
    return model


def fit(model: Model, data: MultimodalDataset | None = None, **options: Any) -> mvcore.Run:
    """Two stages of two epochs of three steps, with the order of rows, noise, dropout and a schedule to restore."""
    chosen: dict[str, Any] = {"epochs": 4, "batch_size": 16, "lr": 1e-2, "progress": False, "schedule": "one_cycle"}
    chosen |= {"validation": toy(20, 1), "checkpoint_steps": 1, **options}
    return mvcore.fit(model, toy() if data is None else data, accelerator=Accelerator(cpu=True), **chosen)


def assert_same(one: mvcore.Run, other: mvcore.Run) -> None:
    assert one.history == other.history
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name]), name


@pytest.fixture(scope="module")
def whole() -> mvcore.Run:
    """The training that nothing interrupts."""
    return fit(make())


@pytest.mark.parametrize("steps", [0, 1, 3, 5, 6, 7, 11])
@pytest.mark.parametrize("every", [1, 2, None])
def test_a_training_stopped_after_any_step_ends_with_the_same_weights_and_history(
    tmp_path: Path, whole: mvcore.Run, steps: int, every: int | None
) -> None:
    with pytest.raises(Stop):
        fit(make(), checkpoint=tmp_path, checkpoint_steps=every, callbacks=[StopAfter(steps)])
    torch.manual_seed(99)  # another state of the generators, other weights
    resumed = fit(make(), checkpoint=tmp_path, checkpoint_steps=every, resume=True)
    assert_same(whole, resumed)


def test_checkpoints_change_nothing(tmp_path: Path, whole: mvcore.Run) -> None:
    assert_same(whole, fit(make(), checkpoint=tmp_path))


def test_a_finished_training_is_taken_as_it_is(tmp_path: Path) -> None:
    whole = fit(make(), checkpoint=tmp_path)
    again = fit(make(), checkpoint=tmp_path, resume=True, callbacks=[StopAfter(0)])
    assert_same(whole, again)


def test_early_stopping_is_remembered(tmp_path: Path) -> None:
    options = {"patience": 1, "epochs": 12, "lr": 0.3}
    whole = fit(make(), **options)
    assert len(whole.history) < 12
    with pytest.raises(Stop):
        fit(make(), checkpoint=tmp_path, callbacks=[StopAfter(3 * len(whole.history) - 2)], **options)
    assert_same(whole, fit(make(), checkpoint=tmp_path, resume=True, **options))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fields": {"latent_dim": 3}}, r"model\.config\.latent_dim: 2, 3"),
        ({"options": {"lr": 2e-2}}, r"options\.lr: 0\.01, 0\.02"),
        ({"options": {"epochs": 5}}, r"options\.epochs: 4, 5"),
        ({"options": {"validation": None}}, "validation"),
        ({"data": toy(40, 7)}, r"data\.sums\.a"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused_and_what_differs_is_named(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    fit(make(), checkpoint=tmp_path)
    with pytest.raises(CheckpointError, match=message):
        fit(
            make(**change.get("fields", {})), change.get("data"), checkpoint=tmp_path, resume=True,
            **change.get("options", {}),
        )  # fmt: skip


def test_a_folder_with_a_checkpoint_is_not_overwritten_unasked(tmp_path: Path) -> None:
    fit(make(), checkpoint=tmp_path)
    with pytest.raises(CheckpointError, match="resume=True"):
        fit(make(), checkpoint=tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "empty", "foreign"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, damage: str) -> None:
    fit(make(), checkpoint=tmp_path)
    file = tmp_path / "checkpoint.pt"
    content = file.read_bytes()
    file.write_bytes({"truncated": content[: len(content) // 2], "empty": b"", "foreign": b"not a checkpoint"}[damage])
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt.*damaged"):
        fit(make(), checkpoint=tmp_path, resume=True)


class Explode:
    """Makes a weight infinite before a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    @hookimpl
    def mvcore_step_end(self, model: Model, step: int) -> None:
        if step == self.step:
            with torch.no_grad():
                next(model.decoders["b"].parameters()).fill_(torch.inf)


def test_a_loss_that_is_not_finite_is_named_and_the_last_good_checkpoint_stays(tmp_path: Path) -> None:
    message = (
        r"epoch 1 of stage 'first'; terms that are not: loss, reconstruction/b\. Modalities: b\. It began in step 5"
    )
    with pytest.raises(TrainingError, match=message):
        fit(make(), checkpoint=tmp_path, checkpoint_steps=None, callbacks=[Explode(4)])
    resumed = fit(make(), checkpoint=tmp_path, checkpoint_steps=None, resume=True)
    assert_same(fit(make()), resumed)


RANKS = """
import sys
import numpy as np, torch
torch.set_num_threads(1)
import mvcore
from accelerate import Accelerator
from mvcore.data.dataset import MultimodalDataset
from mvcore.training.hooks import hookimpl

class Stop(Exception):
    pass

class StopAfter:
    @hookimpl
    def mvcore_step_end(self, step):
        if step == 5:
            raise Stop

rng = np.random.default_rng(0)
data = MultimodalDataset({"a": rng.normal(size=(22, 3)), "b": rng.normal(size=(22, 4))}, {"b": np.arange(22) == 3})
accelerator = Accelerator(cpu=True)

def train(**options):
    torch.manual_seed(0)
    small = {f"modalities.{m}.{p}.hidden": [8] for m in "ab" for p in ("encoder", "decoder")}
    model = mvcore.create("multimodal", data, latent_dim=2, **small)
    return mvcore.fit(model, data, epochs=4, batch_size=8, lr=1e-2, accumulate=2, progress=False,
                      accelerator=accelerator, checkpoint_steps=1, **options)

whole = train()
try:
    train(checkpoint=sys.argv[1], callbacks=[StopAfter()])
except Stop:
    pass
accelerator.wait_for_everyone()
accelerator.free_memory()
resumed = train(checkpoint=sys.argv[1], resume=True)
assert whole.history == resumed.history
for name, value in whole.model.state_dict().items():
    assert torch.equal(value, resumed.model.state_dict()[name]), name
print("same on rank", accelerator.process_index)
accelerator.end_training()
"""


@pytest.mark.slow
def test_two_ranks_with_micro_batches_go_on_bit_by_bit(tmp_path: Path) -> None:
    script = tmp_path / "ranks.py"
    script.write_text(RANKS)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*command, str(script), str(tmp_path / "run")], env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("same on rank") == 2
