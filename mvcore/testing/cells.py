"""The check of unknown cells inside observations: what stands behind them changes nothing, and they are imputed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mvcore.data.batch import Batch
from mvcore.data.schema import ModalitySpec, Schema
from mvcore.models.base import Model
from mvcore.testing import density
from mvcore.testing.checks import all_patterns

if TYPE_CHECKING:
    from mvcore.testing.conformance import Case

#: The likelihoods of the three modalities, in turn: each of the core's stands beside others.
_LIKELIHOODS = (
    ("normal", "categorical", "poisson"),
    ("bernoulli", "laplace", "negative_binomial"),
    ("student_t", "zero_inflated_negative_binomial", "log_normal"),
)
_CATEGORIES = 3


def cells(case: Case) -> None:
    """Values behind unknown cells change nothing, whatever the likelihoods; masks reach encoders; cells are imputed."""
    for likelihoods in _LIKELIHOODS:
        schema = _schema(case.world.schema, likelihoods)
        model, batch = case.stirred(schema).float(), _rows(schema)
        _change_nothing(model, [_filled(batch, schema, other) for other in (False, True)], likelihoods)
        _reach_encoders(model, batch)
        _keep_the_known(model, batch, likelihoods)


def _schema(plain: Schema, likelihoods: tuple[str, ...]) -> Schema:
    """The modalities of a schema with other likelihoods."""
    named = zip(plain, likelihoods, strict=True)
    categories = {"categorical": _CATEGORIES}
    return Schema(
        tuple(ModalitySpec(name=m.name, shape=m.shape, likelihood=p, categories=categories.get(p)) for m, p in named)
    )


def _rows(schema: Schema) -> Batch:
    """A row of each pattern, seven cells of ten known; in the last row no cell of the first modality is."""
    generator = torch.Generator().manual_seed(1)
    observed, x, known = all_patterns(len(schema.names)), {}, {}
    for i, spec in enumerate(schema):
        shape = (int(observed[:, i].sum()), *spec.shape)
        x[spec.name] = _values(spec.likelihood, shape, generator)
        known[spec.name] = torch.rand(shape, generator=generator) < 0.7
    known[schema.names[0]][-1] = False
    return Batch(x, observed, known)


def _values(likelihood: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    if likelihood == "categorical":
        return torch.randint(0, _CATEGORIES, shape, generator=generator)
    if likelihood == "bernoulli":
        return torch.randint(0, 2, shape, generator=generator).float()
    if likelihood in ("poisson", "negative_binomial", "zero_inflated_negative_binomial"):
        return torch.poisson(torch.full(shape, 3.0), generator=generator)
    values = torch.randn(shape, generator=generator)
    return values.exp() if likelihood == "log_normal" else values


def _filled(batch: Batch, schema: Schema, other: bool) -> Batch:
    """The batch with 0 behind its unknown cells; or with NaN, the last category where there is none."""
    x = {}
    for m, values in batch.x.items():
        behind = 0 if not other else float("nan") if values.is_floating_point() else _CATEGORIES - 1
        x[m] = values.where(batch.cells[m], torch.tensor(behind, dtype=values.dtype))
    return batch.with_values(x, batch.observed, batch.cells)


def _change_nothing(model: Model, filled: list[Batch], likelihoods: tuple[str, ...]) -> None:
    """Losses, their gradients, likelihoods and imputations are the same for each filling, and finite."""
    for compute in (_losses, _answers):
        for (what, one), (_, other) in zip(*(compute(model, batch) for batch in filled), strict=True):
            assert one.isfinite().all(), f"with unknown cells of {likelihoods} the {what} is not finite"
            assert torch.equal(one, other), f"what stands behind unknown cells of {likelihoods} changes the {what}"


def _losses(model: Model, batch: Batch) -> list[tuple[str, Tensor]]:
    found: list[tuple[str, Tensor]] = []
    for stage in model.stages():
        model.zero_grad(set_to_none=True)
        torch.manual_seed(0)  # a training may draw what it drops
        loss = model(batch, stage=stage.name).loss
        loss.backward()
        found.append((f"loss of {stage.name!r}", loss.detach()))
        found += [
            (f"gradient of {n} in {stage.name!r}", p.grad) for n, p in model.named_parameters() if p.grad is not None
        ]
    return found


def _answers(model: Model, batch: Batch) -> list[tuple[str, Tensor]]:
    imputed = [(f"imputation of {m!r}", x) for m, x in model.impute(batch, K=3).items()]
    return [("log-likelihood", density.log_likelihoods(model, batch, 3)), *imputed]


def _reach_encoders(model: Model, batch: Batch) -> None:
    """The encoder of each modality is told which of its cells are known."""
    told: dict[str, list[Tensor | None]] = {m: [] for m in batch.names}

    def note(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
            told[name].append(args[1] if len(args) > 1 else kwargs.get("mask"))

        return hook

    hooks = [model.encoders[m].register_forward_pre_hook(note(m), with_kwargs=True) for m in batch.names]
    model.encode_modalities(batch)
    for hook in hooks:
        hook.remove()
    for m, masks in told.items():
        assert any(mask is not None and torch.equal(mask, batch.cells[m]) for mask in masks), (
            f"the encoder of {m!r} is not told which cells are known"
        )


def _keep_the_known(model: Model, batch: Batch, likelihoods: tuple[str, ...]) -> None:
    """Known cells of what the model generates stay as they are."""
    imputed = model.impute(batch, K=3)
    for m in model.generated:
        values, known, kept = batch.x[m], batch.cells[m], imputed[m][batch.rows(m)]
        assert torch.equal(kept[known], values[known]), f"the imputation of {m!r} changes known cells of {likelihoods}"
