"""The training loop: what it reports is what happened, and two processes train as one does."""

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
from safetensors.torch import load_file
from torch import nn

import mvcore
from mvcore.data.batch import Batch
from mvcore.data.dataset import MultimodalDataset
from mvcore.errors import ConfigError, DataError, TrainingError
from mvcore.losses.base import LossOutput
from mvcore.losses.elbo import ELBO
from mvcore.losses.passes import Pass
from mvcore.models.base import Model, Stage
from mvcore.testing.noise import fixed_noise


def toy(n: int = 60, seed: int = 0) -> MultimodalDataset:
    """Three noisy views of one number, half of the second and a third of the third missing."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 1))
    arrays = {
        m: z @ rng.normal(size=(1, d)) + 0.1 * rng.normal(size=(n, d)) for m, d in {"a": 3, "b": 4, "c": 2}.items()
    }
    return MultimodalDataset(arrays, {"b": np.arange(n) % 2 == 0, "c": np.arange(n) % 3 > 0})


def make(seed: int = 0, **fields: Any) -> Model:
    torch.manual_seed(seed)
    small: dict[str, Any] = {f"modalities.{m}.{part}.hidden": [8] for m in "abc" for part in ("encoder", "decoder")}
    small |= {"modality_dropout": 0.0, "loss.beta": 1.0, **{f"modalities.{m}.decoder.dropout": 0.0 for m in "abc"}}
    return mvcore.create("multimodal", toy(), latent_dim=2, **{**small, **fields})


def fit(model: Model, data: MultimodalDataset, **options: Any) -> mvcore.Run:
    chosen: dict[str, Any] = {
        "epochs": 3,
        "batch_size": 16,
        "lr": 1e-3,
        "schedule": "constant",
        "progress": False,
        **options,
    }
    return mvcore.fit(model, data, accelerator=Accelerator(cpu=True), **chosen)


def weights(model: Model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("loss", ["elbo", "iwae", "dreg"])
def test_the_loss_falls_on_partial_rows(loss: str) -> None:
    # the views share one number, so the posterior can tell nearly all of the variance: far below the first epoch's loss
    run = fit(make(loss=loss, **({} if loss == "elbo" else {"loss.samples": 3})), toy(), epochs=12, lr=3e-2)
    losses = [row["loss"] for row in run.history]
    assert len(losses) == 12
    assert losses[-1] < losses[0] - 1
    assert not any(module.training for module in run.model.modules())


def test_a_seed_decides_the_weights_bit_by_bit() -> None:
    found = [weights(fit(make(), toy(), seed=seed).model) for seed in (1, 1, 2)]
    assert same(found[0], found[1])
    assert not same(found[0], found[2])


def test_history_holds_the_means_over_the_rows_however_they_are_batched() -> None:
    data = toy(21)
    model = make()
    with fixed_noise():  # and a rate at which no weight moves
        history = fit(model, data, epochs=2, batch_size=8, lr=1e-30).history
        output = model(data.batch(), epoch=0.0)
    for row in history:
        assert row["loss"] == pytest.approx(float(output.loss.detach()), rel=1e-5)
        for name, value in output.terms.items():
            assert row[name] == pytest.approx(float(value), rel=1e-5, abs=1e-6)
        assert row["loss"] == pytest.approx(sum(row[name] for name in output.terms), rel=1e-5)
    assert [row["epoch"] for row in history] == [0, 1]
    assert {row["stage"] for row in history} == {"train"}


class Recorder(nn.Module):
    """An ELBO that writes down what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.elbo, self.epochs, self.sizes = ELBO(), [], []  # type: ignore[var-annotated]

    def forward(self, p: Pass) -> LossOutput:
        self.epochs.append(p.epoch)
        self.sizes.append(len(p.batch))
        output: LossOutput = self.elbo(p)
        return output


def test_epochs_are_counted_in_fractions_and_every_row_is_seen_once() -> None:
    model = make()
    model.loss = Recorder()
    fit(model, toy(20), epochs=2, batch_size=8)
    assert model.loss.epochs == pytest.approx([0, 1 / 3, 2 / 3, 1, 4 / 3, 5 / 3])
    assert model.loss.sizes == [8, 8, 4] * 2


class Scripted(nn.Module):
    """An ELBO whose value on validation rows is read off a list."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.elbo, self.values = ELBO(), list(values)

    def forward(self, p: Pass) -> LossOutput:
        output: LossOutput = self.elbo(p) if self.training else LossOutput(torch.tensor(self.values.pop(0)))
        return output


def test_validation_keeps_the_weights_of_the_best_epoch() -> None:
    model = make()
    model.loss = Scripted(5.0, 3.0, 4.0, 3.5)
    run = fit(model, toy(), validation=toy(10, seed=5), epochs=4)
    assert [row["validation_loss"] for row in run.history] == [5.0, 3.0, 4.0, 3.5]
    assert same(weights(run.model), weights(fit(make(), toy(), epochs=2).model))  # as it was after the second epoch


def test_the_validation_loss_is_the_mean_over_the_validation_rows() -> None:
    held_out = toy(25, seed=5)
    with fixed_noise():
        run = fit(make(), toy(), validation=held_out, epochs=1, lr=1e-30)
        expected = float(run.model(held_out.batch()).loss.detach())
    assert run.history[0]["validation_loss"] == pytest.approx(expected, rel=1e-5)


def test_validation_changes_nothing_else() -> None:
    with_, without = fit(make(), toy(), validation=toy(25, seed=5)), fit(make(), toy())
    assert [row["loss"] for row in with_.history] == [row["loss"] for row in without.history]


def test_transforms_are_fitted_to_the_training_rows() -> None:
    data, held_out = toy(), toy(25, seed=5)
    model = fit(make(), data, validation=held_out).model
    values, have = data.dense("b")
    torch.testing.assert_close(model.inputs["b"].affine.loc, values[have].mean(0))  # type: ignore[union-attr]


@pytest.mark.parametrize("epochs", [3, 4, 7, 10])
@pytest.mark.parametrize("shares", [(1.0,), (1.0, 2.0, 1.0), (0.5, 0.1, 3.0)])
def test_the_stages_share_the_epochs_and_lose_none(shares: tuple[float, ...], epochs: int) -> None:
    model = make()
    stages = [Stage(str(i), share) for i, share in enumerate(shares)]
    model.stages = lambda: stages  # type: ignore[method-assign, assignment]
    names = [row["stage"] for row in fit(model, toy(8), epochs=epochs).history]
    assert len(names) == epochs
    assert names == sorted(names)
    fair = [epochs * share / sum(shares) for share in shares]
    for i, expected in enumerate(fair):  # rounding moves each end of a stage by at most half an epoch
        lifted = sum(1 for other in fair if other < 1)  # those that get one all the same, at the cost of the longest
        assert max(1, expected - 1 - lifted) <= names.count(str(i)) <= max(1, expected + 1)


@pytest.mark.parametrize("epochs", [1, 2])
def test_fewer_epochs_than_stages_are_refused(epochs: int) -> None:
    model = make()
    model.stages = lambda: [Stage(name) for name in ("one", "two", "three")]  # type: ignore[method-assign, assignment]
    with pytest.raises(ConfigError, match=rf"trains in 3 stages \('one', 'two', 'three'\).*got {epochs}"):
        fit(model, toy(), epochs=epochs)


def test_a_stage_leaves_frozen_modules_alone_and_in_eval_mode() -> None:
    model = make()
    modes: list[bool] = []
    model.encoders["a"].register_forward_pre_hook(lambda module, args: modes.append(module.training))
    before = weights(model)
    frozen = Stage("frozen", 1.0, frozen=(model.encoders,))
    model.stages = lambda: [frozen]  # type: ignore[method-assign, assignment]
    fit(model, toy())
    after = weights(model)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert not any(name.startswith("encoders.") for name in moved)
    assert any(name.startswith("decoders.") for name in moved)
    assert not any(modes)
    assert all(p.requires_grad for p in model.parameters())
    model.stages = lambda: [frozen, Stage("all")]  # type: ignore[method-assign, assignment]
    fit(model, toy(), epochs=4)
    assert not torch.equal(weights(model)["encoders.a.head.linear.weight"], before["encoders.a.head.linear.weight"])
    assert any(modes)


def test_a_loss_that_is_not_finite_is_told_with_its_terms() -> None:
    with pytest.raises(TrainingError, match=r"not finite in epoch 0 of stage 'train'; terms that are not: .*kl"):
        fit(make(), toy(), lr=1e30)
    data = MultimodalDataset({"a": np.full((8, 3), 1e30), "b": np.zeros((8, 4)), "c": np.zeros((8, 2))})
    fields = {f"modalities.{m}.{part}": "none" for m in "abc" for part in ("input", "target")}
    model = make(**fields)
    model.inputs["a"] = Clipped()  # keeps the encoder finite; only the reconstruction of a overflows
    model.fit_transforms = lambda data: None  # type: ignore[method-assign, assignment, misc]
    with pytest.raises(TrainingError, match=r"terms that are not: loss, reconstruction/a\."):
        fit(model, data)


class Clipped(nn.Module):
    def forward(self, x: torch.Tensor, known: torch.Tensor | None = None) -> torch.Tensor:
        return x.clamp(0, 6)


@pytest.mark.parametrize("option", [{"epochs": 0}, {"batch_size": 0}, {"lr": 0.0}, {"lr": -1.0}, {"lr": float("nan")}])
def test_an_option_out_of_range_is_refused(option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(option))} must be in"):
        fit(make(), toy(), **option)


def test_data_of_other_modalities_are_refused() -> None:
    other = MultimodalDataset({"a": np.zeros((4, 3)), "b": np.zeros((4, 4))})
    for options in ({"data": other}, {"data": toy(), "validation": other}):
        with pytest.raises(DataError, match=r"'a', 'b', 'c'.*'a', 'b'"):
            fit(make(), **options)  # type: ignore[arg-type]


WORKER = """
import os, sys
import mvcore, numpy as np, torch
from mvcore.data.dataset import MultimodalDataset
from mvcore.testing.noise import fixed_noise
from safetensors.torch import save_file

torch.set_num_threads(1)
rng = np.random.default_rng(0)
has_b, has_c = np.arange(9) == 3, np.arange(9) % 2 == 0  # one row has b: at least one of two ranks never sees it
data = MultimodalDataset(
    {"a": rng.normal(size=(9, 3)), "b": rng.normal(size=(9, 2)), "c": rng.normal(size=(9, 4))},
    {"b": has_b, "c": has_c},
)
torch.manual_seed(0)
small = {f"modalities.{m}.{part}.hidden": [5] for m in "abc" for part in ("encoder", "decoder")}
small |= {"modality_dropout": 0.0, **{f"modalities.{m}.decoder.dropout": 0.0 for m in "abc"}}
options = {"loss.stratified": True, "posterior.subsets": "all", "posterior.prior_expert": "none"}
model = mvcore.create("multimodal", data, latent_dim=2, **small, **options).double()
with fixed_noise():  # 9 rows in batches of 4: the last has one row, so one of two ranks has none
    run = mvcore.fit(model, data, epochs=3, batch_size=4, lr=1e-2, progress=False)  # joins them itself
rank, ranks = os.environ["RANK"], os.environ["WORLD_SIZE"]
values = {name: value.clone() for name, value in model.state_dict().items()}
values["history"] = torch.tensor([[v for v in row.values() if isinstance(v, float)] for row in run.history])
save_file(values, f"{sys.argv[1]}/{rank}-of-{ranks}.safetensors")
if ranks == "2":
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_with_a_modality_absent_on_one_train_as_one_process_does(tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    for ranks in (1, 2):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]
        done = subprocess.run(
            [*command, str(script), str(tmp_path)], env=environment, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, done.stderr[-3000:]
    alone = load_file(tmp_path / "0-of-1.safetensors")
    first, second = (load_file(tmp_path / f"{rank}-of-2.safetensors") for rank in (0, 1))
    for name, value in alone.items():
        assert torch.equal(first[name], second[name]), name
        tolerance = {"rtol": 1e-5, "atol": 1e-5} if name == "history" else {"rtol": 1e-7, "atol": 1e-8}
        torch.testing.assert_close(first[name], value, **tolerance, msg=lambda m, n=name: f"{n}: {m}")


def test_a_batch_without_rows_has_loss_zero_and_finite_gradients() -> None:
    model = make()
    model.fit_transforms(toy())
    empty: Batch = toy().batch(torch.zeros(0, dtype=torch.long))
    loss = model(empty).loss
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
