"""Log-likelihoods of a data set, estimated by importance sampling, in data units and nats."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor

from mvcore.data.dataset import MultimodalDataset
from mvcore.models.base import Model


def log_likelihood(
    model: Model, data: MultimodalDataset, K: int = 1000, *, batch_size: int = 64, seed: int = 0
) -> Tensor:
    """Log p of what each row has, ``(n,)``; see ``Model.log_likelihood``."""
    generator = torch.Generator().manual_seed(seed)
    return torch.cat([model.log_likelihood(b, K, generator=generator) for b in data.batches(batch_size)])


def conditional_log_likelihood(
    model: Model,
    data: MultimodalDataset,
    target: Iterable[str],
    given: Iterable[str] | None = None,
    estimator: Literal["predictive", "ratio", "reweighted"] = "predictive",
    K: int = 1000,
    *,
    batch_size: int = 64,
    seed: int = 0,
) -> Tensor:
    """Log p(target | given) of each row, ``(n,)``, NaN without a target; see ``Model.conditional_log_likelihood``."""
    generator = torch.Generator().manual_seed(seed)
    target, given = list(target), None if given is None else list(given)
    parts = [
        model.conditional_log_likelihood(b, target, given, estimator, K, generator=generator)
        for b in data.batches(batch_size)
    ]
    return torch.cat(parts)
