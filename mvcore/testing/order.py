"""Checks that a model knows modalities by their names: in any order, and without those that a view leaves out."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch

from mvcore.data.batch import Batch
from mvcore.data.schema import Schema
from mvcore.models.base import Model
from mvcore.testing import checks, density
from mvcore.testing.noise import fixed_noise

if TYPE_CHECKING:
    from mvcore.testing.conformance import Case

#: Where the modalities of a check's world stand in the other order: the last comes first.
_TURNED = (2, 0, 1)


def order(case: Case) -> None:
    """A model built on the modalities in another order, with the same weights, gives the same answers."""
    model = case.stirred()
    other = case.make(Schema(tuple(case.world.schema.modalities[i] for i in _TURNED)))
    other.load_state_dict(model.state_dict())
    _same_answers(model, case.batch, other, _turned(case.batch), "the modalities in another order")


def batch_order(case: Case) -> None:
    """The order in which a batch holds its modalities changes no answer."""
    model = case.stirred()
    _same_answers(model, case.batch, model, _turned(case.batch), "a batch's modalities in another order")


def views(case: Case) -> None:
    """A view without some modalities, or without any, trains as rows that lack them do, in every stage."""
    model, batch = case.stirred().eval(), case.batch
    for size in (1, 2, 3):
        for hidden in itertools.combinations(batch.names, size):
            kept = torch.tensor([m not in hidden for m in batch.names]).expand(len(batch), -1)
            for stage in model.stages():
                with fixed_noise():
                    view, rows = (model(b, stage=stage.name).loss for b in (batch.without(hidden), batch.keep(kept)))
                assert view.isfinite(), f"the loss of a view without {hidden} is {view}"
                checks.same(view, rows, f"the loss of a view without {hidden}, beside that of rows without them")


def _turned(batch: Batch) -> Batch:
    """The same rows, their modalities in the other order."""
    return Batch({batch.names[i]: batch.x[batch.names[i]] for i in _TURNED}, batch.observed[:, list(_TURNED)])


def _same_answers(model: Model, batch: Batch, other: Model, turned: Batch, what: str) -> None:
    """The losses of every stage, the embeddings, the likelihoods and the imputations of two models agree."""
    single = (batch.observed.sum(1) == 1).nonzero().squeeze(1)  # which component others draw from is random
    with fixed_noise():
        for stage in model.stages():
            for _ in checks.modes(model, batch, stage.name):
                first = model(batch, stage=stage.name).loss
                second = other.train(model.training)(turned, stage=stage.name).loss
                checks.same(first, second, f"the loss of {what}, stage {stage.name!r}")
        checks.same(model.embed(batch), other.embed(turned), f"the embedding of {what}")
        scored, again = density.log_likelihoods(model, batch, 4), density.log_likelihoods(other, turned, 4)
        checks.same(scored, again, f"the log-likelihood of {what}")
        mine, others = model.impute(batch.select(single), K=2), other.impute(turned.select(single), K=2)
        for m in model.generated:
            checks.same(mine[m], others[m], f"the imputation of {m!r} for {what}")
