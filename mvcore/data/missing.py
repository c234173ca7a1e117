"""Mechanisms that hide modalities, to test models on data whose truth is known."""

from __future__ import annotations

import torch

from mvcore.data.dataset import MultimodalDataset
from mvcore.errors import DataError


def mcar(data: MultimodalDataset, rate: float, *, seed: int) -> MultimodalDataset:
    """Hides each observed modality of each row with probability ``rate``, completely at random.

    Every row keeps at least one modality, and none is privileged: patterns that would leave a row with nothing are
    drawn again, so the pattern has the distribution of independent draws given that something is left.

    Args:
        data: The data set.
        rate: Probability in [0, 1).
        seed: Seed of the mask, apart from any of the model's.
    """
    if not 0 <= rate < 1:
        raise DataError(f"rate must be in [0, 1), got {rate!r}.")
    generator = torch.Generator().manual_seed(seed)
    kept = torch.zeros_like(data.observed)
    pending = torch.arange(len(data))
    while len(pending):
        drawn = torch.rand(len(pending), len(data.schema), generator=generator) >= rate
        kept[pending] = data.observed[pending] & drawn
        pending = pending[~kept[pending].any(1)]
    return data.hide(data.observed & ~kept)
