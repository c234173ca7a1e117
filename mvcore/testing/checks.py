"""Checks that hold for every model; each raises an AssertionError that names what it found.

Those that compare losses do so in both modes; in evaluation mode alone where a training draws more than its latents.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from mvcore.data.batch import Batch
from mvcore.data.schema import Schema
from mvcore.models.base import Model
from mvcore.testing import density
from mvcore.testing.noise import fixed_noise


def all_patterns(size: int) -> Tensor:
    """Every non-empty pattern of observed modalities ``(2^size − 1, size)``, bool."""
    return torch.tensor(list(itertools.product([False, True], repeat=size))[1:])


def check_submodels(make: Callable[[Schema], Model], model: Model, batch: Batch, stage: str | None = None) -> None:
    """A row has the loss and the gradients that a model built on the row's modalities alone gives it.

    Args:
        make: Builds the model for a schema, with a loss that draws from every component.
        model: The model of all modalities.
        batch: Rows of every pattern, in the model's dtype.
        stage: The stage whose loss is compared.
    """
    for _ in modes(model, batch, stage):
        _check_submodels(make, model, batch, stage)


def _check_submodels(make: Callable[[Schema], Model], model: Model, batch: Batch, stage: str | None) -> None:
    for names, rows in _by_pattern(batch):
        specs = tuple(model.schema[m] for m in names)
        part = make(Schema(specs, model.schema.context)).to(next(model.parameters()).dtype).train(model.training)
        weights = model.state_dict()
        part.load_state_dict({key: weights[key] for key in part.state_dict()})
        with fixed_noise():
            whole_loss, whole_grads = _gradients(model, batch.select(rows), stage)
            part_loss, part_grads = _gradients(part, batch.select(rows).only(names), stage)
        same(whole_loss, part_loss, f"loss of rows with {names}")
        for key, gradient in part_grads.items():
            same(whole_grads[key], gradient, f"gradient of {key} from rows with {names}")
        for key in set(whole_grads) - set(part_grads):
            assert not whole_grads[key].any(), f"rows with {names} send a gradient to {key}"


def check_neighbours(model: Model, batch: Batch, stage: str | None = None) -> None:
    """A batch's loss is the mean of its rows' losses, and a row's embedding is what it is alone."""
    losses_alone(model, batch, stage)
    embeddings_alone(model, batch)


def losses_alone(model: Model, batch: Batch, stage: str | None = None) -> None:
    """A batch's loss is the mean of its rows' losses."""
    with fixed_noise():
        for _ in modes(model, batch, stage):
            whole = model(batch, stage=stage).loss
            alone = torch.stack([model(batch.select(torch.tensor([i])), stage=stage).loss for i in range(len(batch))])
            same(whole, alone.mean(), "the loss of a batch, beside the mean of its rows' losses")


def embeddings_alone(model: Model, batch: Batch) -> None:
    """A row's embedding is what it is alone."""
    with fixed_noise():
        embedded = model.embed(batch)
        for i in range(len(batch)):
            one = model.embed(batch.select(torch.tensor([i])))[0]
            same(embedded[i], one, f"embedding of row {i} in the batch and alone")


def check_conditions_on_every_subset(model: Model, batch: Batch) -> None:
    """Every subset of modalities, the empty one too, gives finite draws, likelihoods and imputations on all rows.

    A model without a density has no likelihoods to look at.
    """
    names = batch.names
    for size in range(len(names) + 1):
        for given in itertools.combinations(names, size):
            view = batch.only(given)
            for name, values in {**model.encode(view, 2).values, **model.impute(view, K=2)}.items():
                assert values.isfinite().all(), f"{name} given {given} is not finite"
            if given:
                have = view.observed.any(1)
                assert density.log_likelihoods(model, view, 4)[have].isfinite().all(), f"log p of {given} is not finite"


def check_leaves_state_alone(model: Model, batch: Batch) -> None:
    """Inference changes neither modes, nor weights, nor the global random state, nor the batch; equal calls agree."""
    model.train()
    next(model.children()).eval()
    modes = [m.training for m in model.modules()]
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    data = {m: v.clone() for m, v in batch.x.items()}
    state = torch.get_rng_state()
    first = [model.encode(batch, 2)["shared"], model.embed(batch), density.log_likelihoods(model, batch, 3)]
    again = [model.encode(batch, 2)["shared"], model.embed(batch), density.log_likelihoods(model, batch, 3)]
    model.impute(batch, K=2)
    density.generated(model, 2)
    assert torch.equal(state, torch.get_rng_state()), "the global random state has changed"
    assert modes == [m.training for m in model.modules()], "a module's mode has changed"
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items()), "a weight has changed"
    assert all(torch.equal(v, data[m]) for m, v in batch.x.items()), "the batch has changed"
    # sums over rows that a GPU takes in any order round differently
    same = torch.equal if model.device.type == "cpu" else torch.allclose
    assert all(same(a, b) for a, b in zip(first, again, strict=True)), "two equal calls differ"


def check_no_rows(model: Model, batch: Batch) -> None:
    """A batch of 0 rows, and one whose rows all lack a modality, reach every parameter with a gradient, maybe 0."""
    stages = model.stages()
    for stage in stages:
        frozen = {id(p) for module in stage.frozen for p in module.parameters()}
        for rows in [torch.zeros(0, dtype=torch.long), (~batch.column(batch.names[0])).nonzero().squeeze(1)]:
            model.zero_grad(set_to_none=True)
            output = model(batch.select(rows), stage=stage.name)
            assert output.loss.isfinite(), f"the loss of {len(rows)} rows is {output.loss}"
            output.loss.backward()
            missed = [n for n, p in model.named_parameters() if p.grad is None and id(p) not in frozen]
            assert not missed, f"{len(rows)} rows leave {missed} without a gradient, which stops distributed training"


def modes(model: Model, batch: Batch, stage: str | None) -> Iterator[None]:
    """Puts the model into training mode, unless its loss then varies under fixed noise; and into evaluation mode."""
    model.train()
    with fixed_noise():  # two draws of what a training drops from few rows may be alike, four hardly
        first, *others = (model(batch, stage=stage).loss.detach() for _ in range(4))
    if all(torch.equal(first, other) for other in others):
        yield
    model.eval()
    yield


def same(first: Tensor, second: Tensor, what: str) -> None:
    """Two tensors agree but for rounding."""
    try:
        torch.testing.assert_close(first, second)
    except AssertionError as error:
        raise AssertionError(f"{what}: {error}") from error


def _by_pattern(batch: Batch) -> Iterator[tuple[Sequence[str], Tensor]]:
    for pattern in batch.observed.unique(dim=0):
        rows = (batch.observed == pattern).all(1).nonzero().squeeze(1)
        yield [m for m, has in zip(batch.names, pattern.tolist(), strict=True) if has], rows


def _gradients(model: Model, batch: Batch, stage: str | None) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad(set_to_none=True)
    loss = model(batch, stage=stage).loss
    loss.backward()
    gradients = {k: p.grad for k, p in model.named_parameters() if p.grad is not None}
    return loss.detach(), gradients
