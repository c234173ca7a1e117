"""The options of a training: what each does to the numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import GeneralTracker
from torch import nn

import mvcore
from mvcore.data.dataset import MultimodalDataset
from mvcore.errors import DataError
from mvcore.losses.base import LossOutput
from mvcore.losses.elbo import ELBO
from mvcore.losses.passes import Pass
from mvcore.models.base import Model
from mvcore.testing.noise import fixed_noise
from mvcore.training.hooks import hookimpl


def toy(n: int = 45, seed: int = 0) -> MultimodalDataset:
    rng = np.random.default_rng(seed)
    arrays = {"a": rng.normal(size=(n, 3)), "b": rng.normal(size=(n, 4))}
    return MultimodalDataset(arrays, {"b": np.arange(n) % 3 > 0})


def make(**fields: Any) -> Model:
    torch.manual_seed(0)
    small: dict[str, Any] = {f"modalities.{m}.{part}.hidden": [8] for m in "ab" for part in ("encoder", "decoder")}
    small |= {"modality_dropout": 0.0, "loss.beta": 1.0, **{f"modalities.{m}.decoder.dropout": 0.0 for m in "ab"}}
    return mvcore.create("multimodal", toy(), latent_dim=2, **{**small, **fields})


def fit(model: Model, **options: Any) -> mvcore.Run:
    chosen: dict[str, Any] = {
        "epochs": 2,
        "batch_size": 16,
        "lr": 1e-3,
        "schedule": "constant",
        "progress": False,
        **options,
    }
    chosen.setdefault("accelerator", Accelerator(cpu=True))
    return mvcore.fit(model, toy(), **chosen)


@pytest.fixture(autouse=True)
def _own_precision() -> Iterator[None]:
    """Accelerate keeps a precision for the whole process; what a test here chooses must not reach the next one."""
    yield
    AcceleratorState._reset_state()


@pytest.mark.parametrize("accumulate", [2, 3, 16, 20])
def test_micro_batches_have_the_gradient_of_the_whole_batch(accumulate: int) -> None:
    """45 rows in batches of 16, the last of 13: pieces of unequal sizes, and at 20 empty ones."""
    with fixed_noise():
        whole = fit(make().double(), lr=1e-2)
        parts = fit(make().double(), lr=1e-2, accumulate=accumulate)
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(parts.model.state_dict()[name], value, rtol=1e-8, atol=1e-9)
    for one, other in zip(whole.history, parts.history, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-6)


class Norms:
    """The norm of the gradient that each step was made with."""

    def __init__(self) -> None:
        self.found: list[float] = []

    @hookimpl
    def mvcore_step_end(self, model: Model) -> None:
        squares = [float(p.grad.square().sum()) for p in model.parameters() if p.grad is not None]
        self.found.append(math.sqrt(sum(squares)))


def test_no_gradient_is_longer_than_the_norm_it_is_clipped_to() -> None:
    free, clipped = Norms(), Norms()
    fit(make(), callbacks=[free])
    fit(make(), callbacks=[clipped], clip_norm=0.5)
    assert free.found[0] > 0.5
    assert clipped.found[0] == pytest.approx(0.5, rel=1e-4)
    assert max(clipped.found) <= 0.5 * (1 + 1e-4)


def rates(**options: Any) -> list[float]:
    """The learning rate of every step."""
    found: list[float] = []
    step = torch.optim.Adam.step

    def recorded(self: Any, *args: Any, **kwargs: Any) -> Any:
        found.append(float(self.param_groups[0]["lr"]))
        return step(self, *args, **kwargs)

    with mock.patch.object(torch.optim.Adam, "step", recorded):
        fit(make(), lr=0.1, **options)
    return found


def test_schedules_follow_their_formulas() -> None:
    steps = 4 * 3  # 45 rows in batches of 16
    assert rates(epochs=4) == [0.1] * steps
    cosine = [0.05 * (1 + math.cos(math.pi * t / steps)) for t in range(steps)]
    assert rates(epochs=4, schedule="cosine") == pytest.approx(cosine, rel=1e-6, abs=1e-9)
    cycle = rates(epochs=4, schedule="one_cycle")
    # the peak is at 0.3 of the 12 steps after the first, minus one: 2.6, between two steps
    assert cycle[0] == pytest.approx(0.1 / 25)
    assert max(cycle) == max(cycle[2:4])
    assert 0.09 < max(cycle) <= 0.1
    assert cycle[3:] == sorted(cycle[3:], reverse=True)


class Scripted(nn.Module):
    """An ELBO whose value on validation rows is read off a list."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.elbo, self.values = ELBO(), list(values)

    def forward(self, p: Pass) -> LossOutput:
        output: LossOutput = self.elbo(p) if self.training else LossOutput(torch.tensor(self.values.pop(0)))
        return output


def test_plateau_halves_the_rate_after_ten_epochs_without_a_better_loss() -> None:
    found: list[float] = []
    step = torch.optim.Adam.step

    def recorded(self: Any, *args: Any, **kwargs: Any) -> Any:
        found.append(float(self.param_groups[0]["lr"]))
        return step(self, *args, **kwargs)

    model = make()
    model.loss = Scripted(*[3.0] * 14)
    with mock.patch.object(torch.optim.Adam, "step", recorded):
        fit(model, epochs=14, batch_size=45, lr=0.1, schedule="plateau", validation=toy(10, 1))
    assert found == pytest.approx([0.1] * 12 + [0.05] * 2)


def test_patience_ends_the_training_and_keeps_the_best_epoch() -> None:
    model = make()
    model.loss = Scripted(5.0, 3.0, 4.0, 3.5, 3.25, 2.0)
    run = fit(model, epochs=6, patience=3, validation=toy(10, 1))
    assert [row["validation_loss"] for row in run.history] == [5.0, 3.0, 4.0, 3.5, 3.25]
    for name, value in fit(make(), epochs=2).model.state_dict().items():
        assert torch.equal(run.model.state_dict()[name], value)


def test_patience_without_validation_rows_is_refused() -> None:
    with pytest.raises(DataError, match="needs validation rows"):
        fit(make(), patience=3)


def test_weight_decay_shrinks_what_has_no_gradient() -> None:
    """AdamW multiplies a weight without a gradient by (1 − lr · decay) at each of the 6 steps."""
    model = make()
    idle = nn.Parameter(torch.tensor(2.0))
    model.encoders["a"].register_parameter("idle", idle)
    model.loss = With(idle)
    fit(model, lr=0.1, weight_decay=0.5)
    assert float(idle.detach()) == pytest.approx(2 * (1 - 0.05) ** 6, rel=1e-5)


class With(nn.Module):
    """An ELBO that a parameter enters with a gradient of 0."""

    def __init__(self, idle: nn.Parameter) -> None:
        super().__init__()
        self.elbo, self.idle = ELBO(), [idle]

    def forward(self, p: Pass) -> LossOutput:
        output: LossOutput = self.elbo(p)
        return LossOutput(output.loss + 0 * self.idle[0], output.terms)


def test_mixed_precision_trains_float32_weights_to_nearly_the_same_loss() -> None:
    whole = fit(make(), epochs=3)
    mixed = fit(make(), epochs=3, precision="bf16", accelerator=None)
    assert {p.dtype for p in mixed.model.parameters()} == {torch.float32}
    losses = [(a["loss"], b["loss"]) for a, b in zip(whole.history, mixed.history, strict=True)]
    assert any(a != b for a, b in losses)  # it was another precision
    for a, b in losses:
        assert a == pytest.approx(b, rel=0.02)  # bfloat16 has eight bits: 1/256


@pytest.mark.parametrize("subsets", ["observed", "all"])
def test_fusion_is_in_float32_under_autocast(subsets: str) -> None:
    model = make(**{"posterior.subsets": subsets})
    model.fit_transforms(toy())
    with torch.no_grad():
        encodings = model.encode_modalities(toy().batch())
        exact = model.posterior(encodings).shared.components
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = model.posterior(encodings).shared.components
    assert torch.equal(exact.loc, mixed.loc)
    assert torch.equal(exact.log_scale, mixed.log_scale)


class Memory(GeneralTracker):
    """A tracker that keeps what it is told."""

    name, requires_logging_directory = "memory", False

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, Any]] = []

    @property
    def tracker(self) -> None:
        return None

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        pass

    def log(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
        self.rows.append({**values, "step": step})


def test_an_accelerators_trackers_get_a_row_an_epoch() -> None:
    memory = Memory()
    accelerator = Accelerator(cpu=True, log_with=memory)
    accelerator.init_trackers("test")
    history = fit(make(), accelerator=accelerator).history
    assert [row["loss"] for row in memory.rows] == [row["loss"] for row in history]
    assert [row["step"] for row in memory.rows] == [0, 1]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"accumulate": 0}, "accumulate must be in"),
        ({"clip_norm": 0.0}, "clip_norm must be in"),
        ({"patience": 0}, "patience must be in"),
        ({"weight_decay": -1.0}, "weight_decay must be in"),
        ({"schedule": "cosin"}, "'schedule' must be in"),
        ({"precision": "fp8"}, "'precision' must be in"),
    ],
)
def test_an_option_out_of_range_is_refused(option: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit(make(), **option)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"precision": "bf16"}, "precision is 'bf16', but the accelerator that was given has 'no'"),
        ({"trackers": ("tensorboard",)}, r"trackers is \('tensorboard',\), but an accelerator was given"),
    ],
)
def test_what_a_given_accelerator_would_leave_out_is_refused(option: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit(make(), accelerator=Accelerator(cpu=True, mixed_precision="no"), **option)
