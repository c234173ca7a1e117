"""Captured steps as far as a CPU shows them: padding, equality, what is refused. tests/test_gpu.py has more."""

from __future__ import annotations

import copy
import logging
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator

import mvcore
from mvcore.data.batch import Batch
from mvcore.data.dataset import MultimodalDataset
from mvcore.data.missing import kept_on_device
from mvcore.data.padded import NotCapturableError, padded
from mvcore.losses.base import LossOutput, warmed
from mvcore.losses.passes import Pass
from mvcore.models.base import Model
from mvcore.testing.noise import fixed_noise
from mvcore.testing.padded import compare
from mvcore.training.draws import no_shared_draws, shared_generator
from mvcore.training.feed import Feed
from mvcore.training.graphs import Graphs, graphs_of

PARTS = ("encoder", "decoder")
FIELDS: dict[str, Any] = {"latent_dim": 3, "modality_dropout": 0.0}


def make_data(n: int = 24, *, complete: bool = False, categories: bool = False) -> MultimodalDataset:
    """Three kinds of values, covariates, size factors and unknown cells; every row has the first modality."""
    rng = np.random.default_rng(0)
    arrays = {
        "a": rng.normal(size=(n, 5)),
        "b": rng.normal(size=(n, 2)),
        "c": rng.poisson(3.0, size=(n, 4)).astype(np.float32),
    }
    masks = {} if complete else {"b": np.arange(n) % 3 > 0, "c": np.arange(n) % 4 > 1}
    context: dict[str, Any] = {"age": rng.normal(size=n)}
    if categories:  # which a CPU looks at when they are made one-hot
        arrays["b"], context["site"] = rng.integers(0, 3, size=(n, 2)), rng.integers(0, 2, size=n)
    return MultimodalDataset(
        arrays,
        masks,
        likelihoods={"c": "poisson"},
        cells={"a": rng.random((n, 5)) < 0.8},
        context=context,
        size_factors={"c": rng.random(n) + 0.5},
    )


def make(data: MultimodalDataset, **fields: Any) -> Model:
    torch.manual_seed(0)
    parts = {f"modalities.{m}.{p}": {"use": "mlp", "hidden": [8]} for m in "abc" for p in PARTS}
    model = mvcore.create("multimodal", data, **FIELDS | fields, **parts)
    model.fit_transforms(data)
    return model


def graphs(model: Model, data: MultimodalDataset) -> Graphs:
    accelerator = Accelerator(cpu=True)
    return Graphs(model.train(), accelerator.prepare(model), accelerator, data, "train")


def gradients(model: Model) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("subsets", ["observed", "each", "all"])
@pytest.mark.parametrize("complete", [False, True])
def test_a_captured_step_has_the_loss_and_gradients_of_one_of_packed_rows(subsets: str, complete: bool) -> None:
    data = make_data(complete=complete)
    model = make(data, **{"posterior.subsets": subsets, "loss.warmup": 4.0})
    steps, generator = graphs(model, data), torch.Generator().manual_seed(1)
    for epoch in (0.5, 3.0, 7.0):
        rows = torch.randperm(len(data), generator=generator)[:9]
        with fixed_noise():
            torch.manual_seed(5)
            output = steps.step(rows, epoch)
            assert output is not None
            found = gradients(model)
            model.zero_grad(set_to_none=True)
            torch.manual_seed(5)
            packed = model(data.batch(rows), epoch=epoch)
            packed.loss.backward()
        torch.testing.assert_close(output.loss, packed.loss.detach())
        torch.testing.assert_close(output.terms, packed.terms)
        torch.testing.assert_close(found, gradients(model))
    assert not steps.refused


def test_a_capture_changes_neither_weights_nor_random_states() -> None:
    data = make_data()
    model = make(data)
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    steps = graphs(model, data)
    steps._capture(torch.arange(6), 0.0)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())


def test_the_noise_of_each_step_is_another() -> None:
    data = make_data()
    steps = graphs(make(data), data)
    losses = [steps.step(torch.arange(6), 0.0) for _ in range(2)]
    assert losses[0] is not None
    assert losses[1] is not None
    assert losses[0].loss != losses[1].loss


def test_a_batch_in_which_no_row_has_a_modality_and_rows_of_the_same_one() -> None:
    data = make_data()
    model = make(data)
    without_b = torch.arange(0, 24, 3)
    with fixed_noise():
        output = graphs(model, data).step(without_b, 1.0)
        assert output is not None
        torch.testing.assert_close(output.loss, model(data.batch(without_b), epoch=1.0).loss.detach())


class Counting(torch.nn.Module):
    """A loss of an author that counts what padding adds: it sums over what the encoders gave."""

    def forward(self, p: Pass) -> LossOutput:
        latents = p.draws()
        values = sum(p.reconstruction(latents).values())
        extra = sum(e.loc.square().sum() for e in p.encodings.experts.values()) / len(p.batch)
        return LossOutput(extra - latents.mean(values).mean())


class Looking(torch.nn.Module):
    """A loss of an author that looks at the pattern on the host."""

    def forward(self, p: Pass) -> LossOutput:
        whole = p.batch.observed.all(1).nonzero().squeeze(1)
        latents = p.draws()
        scored = latents.mean(sum(p.reconstruction(latents).values()))
        return LossOutput(-scored.mean() - scored[whole].sum() / len(p.batch))


class Annealed(torch.nn.Module):
    """A loss of an author with a number of its own that changes from call to call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, p: Pass) -> LossOutput:
        self.calls += 1
        latents = p.draws()
        return LossOutput(-self.calls * latents.mean(sum(p.reconstruction(latents).values())).mean())


@pytest.mark.parametrize("loss", [Counting, Looking, Annealed])
def test_a_loss_that_cannot_be_captured_is_refused_with_one_line(
    loss: type[torch.nn.Module], caplog: pytest.LogCaptureFixture
) -> None:
    data = make_data()
    model = make(data)
    model.loss = loss()
    steps = graphs(model, data)
    with caplog.at_level(logging.INFO):
        assert steps.step(torch.arange(6), 0.0) is None
        assert steps.step(torch.arange(5), 0.0) is None
    assert len(caplog.records) == 1
    assert "can't be captured" in caplog.text
    assert all(p.grad is None for p in model.parameters())


def test_a_feed_brings_what_rows_have_and_pads_with_finite_values() -> None:
    data, rows = make_data(categories=True), torch.tensor([7, 0, 13, 3])
    feed = Feed(data, 4, torch.device("cpu"))
    feed.load(rows, 2.5)
    batch, packed = feed.batch(), data.batch(rows)
    assert float(feed.epoch) == 2.5
    assert torch.equal(batch.observed, packed.observed)
    for name in packed.names:
        have = packed.column(name)
        assert torch.equal(batch.x[name][have], packed.x[name])
        assert bool(batch.x[name].isfinite().all())
    assert torch.equal(batch.cells["a"], packed.cells["a"])
    assert torch.equal(batch.context["site"], packed.context["site"])
    assert torch.equal(batch.size_factors["c"], packed.size_factors["c"])
    assert batch.mask("a") is None


def test_a_feed_brings_bytes_as_numbers() -> None:
    data = MultimodalDataset({"a": np.arange(12, dtype=np.uint8).reshape(6, 2)}, likelihoods={"a": "normal"})
    feed = Feed(data, 2, torch.device("cpu"))
    feed.load(torch.tensor([5, 1]), 0.0)
    assert feed.batch().x["a"].dtype == torch.float32
    assert feed.batch().x["a"].tolist() == [[10.0, 11.0], [2.0, 3.0]]


def test_extreme_padding_adds_nothing() -> None:
    """Rows that lack a modality are padded with other rows' values; were these as large as may be, nothing changes."""
    data = make_data()
    model, batch = make(data).double(), data.batch()
    doubled = {m: v.double() if v.is_floating_point() else v for m, v in batch.x.items()}
    filled = padded(batch.with_values(doubled, batch.observed, batch.cells))
    with fixed_noise():
        losses = []
        for far in (1.0, 1e3):
            have = batch.column("c")
            filled.x["c"] = filled.x["c"].where(have[:, None], far)
            torch.manual_seed(0)
            losses.append(model(filled).loss)
    assert losses[0] == losses[1]


@pytest.mark.parametrize("size", [1, 2, 12])
def test_packed_and_padded_rows_agree_for_any_patterns(size: int) -> None:
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        observed = torch.rand(size, 3, generator=generator) < 0.5
        observed[~observed.any(1), int(torch.randint(3, (), generator=generator))] = True
        x = {m: torch.randn(int(observed[:, i].sum()), 4, generator=generator).double() for i, m in enumerate("abc")}
        schema = mvcore.Schema.from_shapes(dict.fromkeys("abc", (4,)))
        torch.manual_seed(0)
        fields = {f"modalities.{m}.{p}": {"use": "mlp", "hidden": [8]} for m in "abc" for p in PARTS}
        fields |= {f"modalities.{m}.{s}": "none" for m in "abc" for s in ("input", "target")}
        model = mvcore.create("multimodal", schema, private_dim=2, **FIELDS, **fields).double().eval()
        assert compare(model, Batch(x, observed)) is not None


def test_modalities_kept_on_the_device_have_the_distribution_of_those_kept_on_the_host() -> None:
    """Given that something is kept, a pattern of k of r modalities has the probability (1−p)^k p^(r−k) / (1 − p^r)."""
    rate, n = 0.3, 40_000
    observed = torch.tensor([[True, True, True], [True, False, True]]).repeat(n, 1)
    torch.manual_seed(0)
    kept = kept_on_device(observed, rate)
    assert bool(kept.any(1).all())
    assert not bool((kept & ~observed).any())
    for row, r in ((0, 3), (1, 2)):
        patterns, counts = kept[row::2].unique(dim=0, return_counts=True)
        for pattern, count in zip(patterns, counts.tolist(), strict=True):
            k = int(pattern.sum())
            law = (1 - rate) ** k * rate ** (r - k) / (1 - rate**r)
            assert abs(count / n - law) < 5 * (law * (1 - law) / n) ** 0.5


def test_what_a_loss_draws_on_the_host_for_each_batch_is_not_captured() -> None:
    with no_shared_draws(), pytest.raises(NotCapturableError, match="on the host"):
        shared_generator()
    assert shared_generator() is torch.default_generator


def test_graphs_are_of_cuda_devices_and_can_be_turned_off() -> None:
    data = make_data()
    model, accelerator = make(data), Accelerator(cpu=True)
    for graphs_option in ("auto", "off"):
        options = mvcore.TrainingConfig(graphs=graphs_option)
        assert graphs_of(model, model, accelerator, data, "train", options) is None


def test_a_warmup_by_a_tensor_is_that_by_a_number() -> None:
    for epoch in (0.0, 0.5, 3.0, 4.0, 9.0):
        assert float(warmed(2.5, 4.0, torch.tensor(epoch, dtype=torch.float64))) == warmed(2.5, 4.0, epoch)
    assert warmed(2.5, 0.0, torch.tensor(0.0)) == 2.5
