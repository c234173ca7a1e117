"""Estimates that every model shares: likelihoods by importance sampling, and imputation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mvcore.data.batch import Batch
from mvcore.data.padded import PaddedBatch
from mvcore.data.schema import ModalitySpec
from mvcore.distributions.latents import Latents
from mvcore.distributions.points import check_density
from mvcore.options import Estimator
from mvcore.validators import check_choice

if TYPE_CHECKING:
    from mvcore.inference.encodings import Encodings
    from mvcore.likelihoods.observations import Observation
    from mvcore.models.base import Model

#: Latents that are decoded at once where no gradient is kept: the activations of some thousand rows stay in cache.
BLOCK = 4096


def log_likelihoods(model: Model, batch: Batch, latents: Latents) -> dict[str, Tensor]:
    """Log p(x_m | latents) ``(K, N)`` of what the batch has of the model's ``generated``; 0 where a row lacks it."""
    if isinstance(batch, PaddedBatch) and not batch.complete:
        return _of_padded(model, batch, latents)
    return {m: _one(model, batch, latents, m) for m in batch.names if m in model.decoders}


def _of_padded(model: Model, batch: PaddedBatch, latents: Latents) -> dict[str, Tensor]:
    """The same, all modalities masked at once: latents before they are decoded, so that nothing overflows, and values.

    Both are finite: times 0 they are 0, and so is the gradient, in fewer passes over memory than by a where.
    """
    shares = batch.shares.repeat(1, latents.repeats)[:, None]  # (M, 1, N)
    shared = latents.values.get("shared")
    masked = dict.fromkeys(batch.names, latents)
    if shared is not None:
        kept = (shared * shares[..., None]).to(shared.dtype).unbind()
        masked = {m: latents.with_values({"shared": z}) for m, z in zip(batch.names, kept, strict=True)}
    values = torch.stack([_one(model, batch, masked[m], m) for m in batch.names]) * shares
    return dict(zip(batch.names, values.unbind(), strict=True))


def log_likelihood(model: Model, batch: Batch, encodings: Encodings, K: int) -> Tensor:
    """Log p(x_O) of each row ``(B,)``."""
    latents, log_weights = importance_weights(model, batch, encodings, K)
    return latents.log_mean_exp(log_weights)


def importance_weights(model: Model, batch: Batch, encodings: Encodings, K: int) -> tuple[Latents, Tensor]:
    """Draws of the proposal and ``log p(x_O, z) − log q(z)`` of each, ``(K', N)``."""
    proposal, prior = model.proposal(encodings), model.prior(encodings)
    check_density(proposal)
    latents = proposal.draw(K, "spread")
    scored = score(model, batch, latents)
    return latents, scored + prior.log_prob(latents) - proposal.log_prob(latents)


def score(model: Model, batch: Batch, latents: Latents) -> Tensor:
    """Σ_m log p(x_m | latents) over what the rows have of the batch, ``(K, N)``, decoded block by block."""
    parts = [_total(log_likelihoods(model, batch, part), part) for part in latents.split(BLOCK)]
    return torch.cat(parts, dim=0 if latents.K > 1 else 1)


def conditional_log_likelihood(
    model: Model,
    batch: Batch,
    target: Sequence[str],
    given: Sequence[str],
    estimator: Estimator,
    K: int,
) -> Tensor:
    """Log p(x_T | x_S) of each row ``(B,)``; NaN without a target."""
    encodings = model.encode_modalities(batch.only([*target, *given]))
    return conditional_of_encodings(model, encodings, target, given, estimator, K)


def conditional_of_encodings(
    model: Model,
    both: Encodings,
    target: Sequence[str],
    given: Sequence[str],
    estimator: Estimator,
    K: int,
) -> Tensor:
    """Log p(x_T | x_S) of each row ``(B,)`` from the encodings of T and S together; NaN without a target."""
    check_choice("estimator", estimator, Estimator)
    whole = log_likelihood(model, both.batch, both, K) if estimator == "ratio" else None
    return conditionals_of_encodings(model, both, target, given, (estimator,), K, whole)[estimator]


def conditionals_of_encodings(
    model: Model,
    both: Encodings,
    target: Sequence[str],
    given: Sequence[str],
    estimators: Sequence[Estimator],
    K: int,
    whole: Tensor | None = None,
) -> dict[Estimator, Tensor]:
    """Several estimates of log p(x_T | x_S), each ``(B,)``, from one set of draws given S; NaN without a target.

    Each has the error that it has alone; where the importance samples are draws of the posterior, as of all models but
    those with a ``proposal`` of their own, all estimates share them.

    Args:
        model: The model.
        both: The encodings of T and S together.
        target: Modalities to score.
        given: Modalities to condition on.
        estimators: Which estimates.
        K: Draws of each row.
        whole: Log p(x_T, x_S) ``(B,)``, which ``ratio`` needs.
    """
    from mvcore.models.base import Model  # which needs this room

    condition, targets = both.only(given), both.batch.only(target)
    found: dict[Estimator, Tensor] = {}
    scored = None
    if set(estimators) & {"ratio", "reweighted"}:
        latents, log_weights = importance_weights(model, condition.batch, condition, K)
        evidence = latents.log_mean_exp(log_weights)
        if "ratio" in estimators:
            assert whole is not None
            found["ratio"] = whole - evidence
        if "reweighted" in estimators:
            scored = score(model, targets, latents)
            found["reweighted"] = latents.log_mean_exp(log_weights + scored) - evidence
    if "predictive" in estimators:
        if scored is None or type(model).proposal is not Model.proposal:
            posterior = model.posterior(condition)
            check_density(posterior)
            latents = posterior.draw(K, "spread")
            scored = score(model, targets, latents)
        found["predictive"] = latents.log_mean_exp(scored)
    has_target = targets.observed.any(1)
    return {name: value.where(has_target.to(value.device), torch.nan) for name, value in found.items()}


def fill(model: Model, batch: Batch, latents: Latents, name: str) -> Tensor:
    """One modality of every row: observed values as they are, the rest by the predictive mean."""
    needed = ~batch.column(name)
    known = batch.cells.get(name)
    have = batch.rows(name)
    if known is not None:
        needed[have.cpu()[~known.flatten(1).all(1).cpu()]] = True
    rows = needed.nonzero().squeeze(1).to(batch.device)
    mean = predictive_mean(model, latents.take(rows), name, batch, rows)
    if name not in batch.x:
        return mean
    x = batch.x[name]
    out = x.new_empty(len(batch), *x.shape[1:])
    out[rows] = mean.to(x)
    out[have] = x if known is None else x.where(known, out[have])
    return out


def predictive_mean(
    model: Model, latents: Mapping[str, Tensor], name: str, batch: Batch | None = None, rows: Tensor | None = None
) -> Tensor:
    """Mean of the decoder's mean over the draws ``(K, N, …)``: ``(N, *shape)``; for categories the most probable.

    The batch and the row ``(N,)`` of each pair say what the context is, where there is any.
    """
    K, spec = len(next(iter(latents.values()))), model.schema[name]
    means = (observation.mean for observation in decoded(model, latents, name, batch, rows))
    total = sum(of_own_categories(mean, spec).sum(0) for mean in means)
    assert isinstance(total, Tensor)
    return total.argmax(1) if spec.categories is not None else total / K


def decoded(
    model: Model, latents: Mapping[str, Tensor], name: str, batch: Batch | None = None, rows: Tensor | None = None
) -> Iterator[Observation]:
    """p(x_m | latents) for latents ``(K, N, …)``, in blocks of draws that fit into a cache; arguments as above."""
    K, N = next(iter(latents.values())).shape[:2]
    step = max(1, BLOCK // max(1, N))
    for k in range(0, K, step):
        yield model.observe({n: v[k : k + step] for n, v in latents.items()}, name, batch, rows)


def of_own_categories(mean: Tensor, spec: ModalitySpec) -> Tensor:
    """Probabilities ``(…, P, F)`` given that each column has one of its own categories, which may be fewer than P.

    Means of what has no named categories are as they were.
    """
    if spec.categories is None or spec.category_names is None:
        return mean
    sizes = torch.tensor([len(each) for each in spec.category_names], device=mean.device)
    allowed = torch.arange(mean.shape[-2], device=mean.device)[:, None] < sizes
    chances = mean.where(allowed, 0)
    total = chances.sum(-2, keepdim=True)
    # where all of a column's probability is on what it does not have, its categories are equally probable
    return (chances / total.clamp(min=torch.finfo(mean.dtype).tiny)).where(total > 0, allowed.to(mean) / sizes)


def _total(values: Mapping[str, Tensor], latents: Latents) -> Tensor:
    like = next(iter(latents.values.values()))
    return sum(values.values(), start=like.new_zeros(like.shape[:2]))


def _one(model: Model, batch: Batch, latents: Latents, name: str) -> Tensor:
    pairs, index = batch.match(name, latents.rows)
    x, known = batch.values(name)
    if index is not None:
        x, known = x.index_select(0, index), None if known is None else known.index_select(0, index)
    rows = latents.rows_at(pairs, batch.device)
    values = model.observe(latents.take(pairs), name, batch, rows).log_prob(x, known)
    if pairs is None:
        return values
    K, N = next(iter(latents.values.values())).shape[:2]
    return values.new_zeros(K, N).index_copy(1, pairs, values)
