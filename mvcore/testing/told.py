"""The check of covariates and size factors: networks are told them, each row its own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from attrs import evolve
from torch import Tensor

import mvcore
from mvcore.data.batch import Batch
from mvcore.data.dataset import MultimodalDataset
from mvcore.data.schema import CovariateSpec, Schema
from mvcore.models.base import Model
from mvcore.testing import checks, density

if TYPE_CHECKING:
    from mvcore.testing.conformance import Case

#: A number, a category and several numbers.
SPECS = (CovariateSpec(name="age"), CovariateSpec(name="site", categories=3), CovariateSpec(name="dose", shape=(2,)))


def covariates(case: Case) -> None:
    """With covariates and size factors it conditions, generates and trains; networks are told each row's own."""
    counted = case.make(case.world.schema).generated[-1]
    model, batch = case.stirred(_schema(case.world.schema, counted)), _rows(case.batch, counted)
    model.fit_transforms(batch)
    plain = case.stirred()
    before = {name: values.clone() for name, values in batch.context.items()}
    for stage in model.stages():
        if _is_mean_of_rows(plain, case.batch, stage.name):
            checks.losses_alone(model, batch, stage.name)
    checks.embeddings_alone(model, batch)
    checks.check_conditions_on_every_subset(model, batch)
    checks.check_no_rows(model, batch)
    _encoders_are_told(model, batch)
    _factors_scale(model, batch, counted)
    _decoders_are_told(model)
    assert all(torch.equal(v, before[n]) for n, v in batch.context.items()), "the covariates of the batch have changed"
    _trains(case, model.schema, batch)


def _schema(plain: Schema, counted: str) -> Schema:
    """The modalities with covariates; one of them holds counts."""
    modalities = [evolve(m, likelihood="negative_binomial") if m.name == counted else m for m in plain]
    return Schema(tuple(modalities), SPECS)


def _is_mean_of_rows(model: Model, batch: Batch, stage: str) -> bool:
    """Whether a loss without covariates is the mean of its rows'; ``neighbours`` is the check that says so."""
    try:
        checks.losses_alone(model, batch, stage)
    except AssertionError:
        return False
    return True


def _rows(batch: Batch, counted: str) -> Batch:
    """The first seven rows, with covariates; one modality holds counts, with size factors."""
    generator, n = torch.Generator().manual_seed(2), 7
    first = batch.select(torch.arange(n))
    context = {
        "age": 40 + 9 * torch.randn(n, dtype=torch.float64, generator=generator),
        "site": torch.arange(n) % 3,
        "dose": torch.randn(n, 2, dtype=torch.float64, generator=generator),
    }
    x = {**first.x, counted: first.x[counted].abs().mul(3).round()}
    factors = {counted: 0.5 + torch.rand(n, dtype=torch.float64, generator=generator)}
    return first.with_values(x, first.observed, {}).with_context(context, factors)


def _others(context: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """For each covariate the context in which it alone is another."""
    changed = {"age": context["age"] + 20, "site": (context["site"] + 1) % 3, "dose": context["dose"] - 3}
    return {name: {**context, name: values} for name, values in changed.items()}


def _encoders_are_told(model: Model, batch: Batch) -> None:
    """Each covariate moves the embedding of every row."""
    embedded = model.embed(batch)
    for name, context in _others(batch.context).items():
        moved = (model.embed(batch.with_context(context, batch.size_factors)) - embedded).abs() > 1e-7
        rows = (~moved.any(1)).nonzero().squeeze(1).tolist()
        assert not rows, f"the covariate {name!r} changes nothing in the embeddings of the rows {rows}"


def _factors_scale(model: Model, batch: Batch, counted: str) -> None:
    """What is imputed of counts is multiplied by the row's factor, and the likelihood of those observed changes."""
    twice = batch.with_context(batch.context, {counted: 2 * batch.size_factors[counted]})
    have, lack = batch.column(counted), ~batch.column(counted)
    one, other = model.impute(batch, K=2)[counted][lack], model.impute(twice, K=2)[counted][lack]
    checks.same(other, 2 * one, f"the imputation of {counted!r} for twice the size factors, beside twice as much")
    if not density.has_density(model, batch):
        return
    moved = (model.log_likelihood(twice, 3) - model.log_likelihood(batch, 3)).abs() > 1e-7
    assert torch.equal(moved.cpu(), have), f"size factors of {counted!r} change the likelihood of the rows {moved}"


def _decoders_are_told(model: Model) -> None:
    """What is generated from the same latents moves with each covariate, in every modality."""
    context = {"age": torch.full((3,), 50.0), "site": torch.tensor([1, 1, 2]), "dose": torch.zeros(3, 2)}
    drawn = density.generated(model, 3, context)
    for m in model.generated:
        assert drawn[m].shape == (3, *model.schema[m].shape), f"{m!r} was generated as {drawn[m].shape}"
    for name, other in _others(context).items():
        for m, values in density.generated(model, 3, other).items():
            moved = ((values - drawn[m]).abs() > 1e-7).flatten(1).any(1)
            assert bool(moved.all()), f"the covariate {name!r} changes nothing in what is generated of {m!r}"


def _trains(case: Case, schema: Schema, batch: Batch) -> None:
    """Two epochs, or one of each stage, end with a finite loss."""
    rows = torch.arange(len(batch)).repeat(4)  # as many as what is told by several rows together asks for
    data = MultimodalDataset.from_batch(schema, _single(batch.select(rows)))
    model = case.make(schema).float()
    epochs = max(2, len(model.stages()))
    run = mvcore.fit(model, data, epochs=epochs, batch_size=14, progress=False, hooks=False)
    assert math.isfinite(run.history[-1]["loss"]), f"a training with covariates ends with {run.history[-1]}"


def _single(batch: Batch) -> Batch:
    """The batch in float32."""
    x = {m: values.float() for m, values in batch.x.items()}
    context = {name: v.float() if v.is_floating_point() else v for name, v in batch.context.items()}
    factors = {m: values.float() for m, values in batch.size_factors.items()}
    return batch.with_values(x, batch.observed, {}).with_context(context, factors)
