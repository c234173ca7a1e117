"""The check of covariates: networks are told them, each row its own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

import mvcore
from mvcore.data.batch import Batch
from mvcore.data.dataset import MultimodalDataset
from mvcore.data.schema import CovariateSpec, Schema
from mvcore.models.base import Model
from mvcore.testing import checks

if TYPE_CHECKING:
    from mvcore.testing.conformance import Case

#: A number, a category and several numbers.
SPECS = (CovariateSpec(name="age"), CovariateSpec(name="site", categories=3), CovariateSpec(name="dose", shape=(2,)))


def covariates(case: Case) -> None:
    """With covariates it conditions, generates and trains; its networks are told each row's own, of any kind."""
    schema = Schema(case.world.schema.modalities, SPECS)
    model, batch = case.make(schema), _rows(case.batch)
    model.fit_transforms(batch)
    before = {name: values.clone() for name, values in batch.context.items()}
    for stage in model.stages():
        checks.losses_alone(model, batch, stage.name)
    checks.embeddings_alone(model, batch)
    checks.check_conditions_on_every_subset(model, batch)
    checks.check_no_rows(model, batch)
    _encoders_are_told(model, batch)
    _decoders_are_told(model, schema)
    assert all(torch.equal(v, before[n]) for n, v in batch.context.items()), "the covariates of the batch have changed"
    _trains(case, schema, batch)


def _rows(batch: Batch) -> Batch:
    """The first seven rows, with covariates."""
    generator, n = torch.Generator().manual_seed(2), 7
    first = batch.select(torch.arange(n))
    context = {
        "age": 40 + 9 * torch.randn(n, dtype=torch.float64, generator=generator),
        "site": torch.arange(n) % 3,
        "dose": torch.randn(n, 2, dtype=torch.float64, generator=generator),
    }
    return first.with_context(context, {})


def _others(context: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """For each covariate the context in which it alone is another."""
    changed = {"age": context["age"] + 20, "site": (context["site"] + 1) % 3, "dose": context["dose"] - 3}
    return {name: {**context, name: values} for name, values in changed.items()}


def _encoders_are_told(model: Model, batch: Batch) -> None:
    """Each covariate moves the embedding of every row."""
    embedded = model.embed(batch)
    for name, context in _others(batch.context).items():
        moved = (model.embed(batch.with_context(context, {})) - embedded).abs() > 1e-7
        rows = (~moved.any(1)).nonzero().squeeze(1).tolist()
        assert not rows, f"the covariate {name!r} changes nothing in the embeddings of the rows {rows}"


def _decoders_are_told(model: Model, schema: Schema) -> None:
    """What is generated from the same latents moves with each covariate, in every modality."""
    context = {"age": torch.full((3,), 50.0), "site": torch.tensor([1, 1, 2]), "dose": torch.zeros(3, 2)}
    drawn = model.generate(3, context=context)
    for spec in schema:
        assert drawn[spec.name].shape == (3, *spec.shape), f"{spec.name!r} was generated as {drawn[spec.name].shape}"
    for name, other in _others(context).items():
        for m, values in model.generate(3, context=other).items():
            moved = ((values - drawn[m]).abs() > 1e-7).flatten(1).any(1)
            assert bool(moved.all()), f"the covariate {name!r} changes nothing in what is generated of {m!r}"


def _trains(case: Case, schema: Schema, batch: Batch) -> None:
    """Two epochs end with a finite loss."""
    single = batch.with_values({m: x.float() for m, x in batch.x.items()}, batch.observed, {})
    data = MultimodalDataset.from_batch(schema, single)
    run = mvcore.fit(case.make(schema).float(), data, epochs=2, batch_size=4, progress=False, hooks=False)
    assert math.isfinite(run.history[-1]["loss"]), f"a training with covariates ends with {run.history[-1]}"
