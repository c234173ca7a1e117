"""The predictive distribution of what rows lack: latents from the posterior, then values from the likelihood."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from mvcore.data.batch import Batch
from mvcore.distributions.latents import Latents
from mvcore.models.base import Model, isolated


@final
@dataclass(frozen=True)
class Predicted:
    """One modality of all rows of a batch. What is observed is itself everywhere: filled, limits and samples."""

    filled: Tensor
    """``(B, *shape)``: the predictive mean; of categories the most probable."""
    low: Tensor | None
    """``(B, *shape)``, the lower limit; None of categories, or without an interval."""
    high: Tensor | None
    """``(B, *shape)``, the upper limit."""
    probabilities: Tensor | None
    """``(B, P, *shape)`` of categories; None of other values."""
    samples: Tensor | None
    """``(S, B, *shape)``, the s-th of each modality from the same latents."""


def predict(
    model: Model,
    batch: Batch,
    *,
    interval: float | None,
    K: int,
    samples: int | None,
    generator: torch.Generator,
) -> dict[str, Predicted]:
    """Every modality of every row, from K draws of the posterior with one value of the likelihood for each.

    All K values of all rows of the batch are held at once, one modality at a time, so limits are exact order
    statistics; a caller bounds memory by the rows of a batch.
    """
    with isolated(model, generator):
        latents = model.posterior(model.encode_modalities(batch)).draw(K)
        return {m: _one(model, batch, latents, m, interval, samples) for m in model.schema.names}


def rank(interval: float, K: int) -> int:
    """The i such that the i-th smallest and the i-th greatest of K draws hold a new draw with at least this probability.

    Of a continuous distribution they hold it with the probability 1 − 2i/(K + 1) exactly, whatever it is (Wilks,
    1941); 0 where K is too small.
    """
    return math.floor((K + 1) * (1 - interval) / 2 + 1e-9)


def _one(
    model: Model, batch: Batch, latents: Latents, name: str, interval: float | None, samples: int | None
) -> Predicted:
    value, known = _observed(model, batch, name)
    spec = model.schema[name]
    rows = (~known.flatten(1).all(1)).nonzero().squeeze(1)
    observation = model.decode(latents.take(rows), [name])[name]
    mean, fixed = observation.mean.mean(0), (value[rows], known[rows])
    wanted = samples is not None or (interval is not None and spec.categories is None)
    drawn = _kept(observation.sample(1)[0], *fixed) if wanted else None
    spread = None if samples is None or drawn is None else _spread(value.expand(samples, *value.shape), rows, drawn[:samples])
    if spec.categories is not None:
        mean = _only_named(mean, model, name)
        every = torch.nn.functional.one_hot(value, spec.categories).movedim(-1, 1).to(mean)
        probabilities = _spread(every[None], rows, mean.where(~known[rows].unsqueeze(1), every[rows])[None])[0]
        filled = _spread(value[None], rows, _kept(mean.argmax(1)[None], *fixed))[0]
        return Predicted(filled, None, None, probabilities, spread)
    filled = _spread(value[None], rows, _kept(mean[None], *fixed))[0]
    if interval is None or drawn is None:
        return Predicted(filled, None, None, None, spread)
    order, i = drawn.sort(dim=0).values, rank(interval, len(drawn))
    low, high = (_spread(value[None], rows, order[k][None])[0] for k in (i - 1, -i))
    return Predicted(filled, low, high, None, spread)


def _observed(model: Model, batch: Batch, name: str) -> tuple[Tensor, Tensor]:
    """The values ``(B, *shape)``, 0 where unknown, and the mask of the known ones."""
    spec = model.schema[name]
    dtype = torch.long if spec.categories is not None else torch.get_default_dtype()
    if name not in batch.x:
        value = torch.zeros(len(batch), *spec.shape, dtype=dtype, device=batch.device)
        return value, torch.zeros_like(value, dtype=torch.bool)
    x, cells, rows = batch.x[name], batch.cells.get(name), batch.rows(name)
    value = x.new_zeros(len(batch), *x.shape[1:])
    known = torch.zeros_like(value, dtype=torch.bool)
    known[rows] = True if cells is None else cells
    value[rows] = x
    return value.where(known, torch.zeros((), dtype=value.dtype, device=value.device)), known


def _kept(drawn: Tensor, value: Tensor, known: Tensor) -> Tensor:
    """Draws ``(K, n, *shape)`` with what is known in its place."""
    return value.where(known, drawn.to(value.dtype))


def _spread(value: Tensor, rows: Tensor, part: Tensor) -> Tensor:
    """``value (S, B, …)`` with some rows replaced by ``part (S, n, …)``."""
    return value.index_copy(1, rows, part.to(value.dtype))


def _only_named(mean: Tensor, model: Model, name: str) -> Tensor:
    """Probabilities ``(n, P, F)`` given that each column has one of its own categories, of which it may have fewer."""
    names = model.schema[name].category_names
    if names is None:
        return mean
    sizes = torch.tensor([len(each) for each in names], device=mean.device)
    allowed = torch.arange(mean.shape[1], device=mean.device)[:, None] < sizes
    mean = mean.where(allowed, 0)
    return mean / mean.sum(1, keepdim=True).clamp(min=torch.finfo(mean.dtype).tiny)
