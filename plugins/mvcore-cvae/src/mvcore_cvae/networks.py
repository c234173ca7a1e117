"""Networks of any subset of the modalities: each has a linear map of its own; those of what a row has are summed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor, nn

from mvcore.data import Batch
from mvcore.distributions import DiagonalNormal, Encoded, full
from mvcore.nn import LatentHead, layers


@final
class Pool(nn.Module):
    """The sum of a linear map of each modality that a row has; 0 for a row that has none.

    For complete rows it is the first layer of a network of all modalities side by side; one that is absent adds
    neither weights nor bias, so a network above it knows what is given.

    Args:
        sizes: Number of values of each modality's encoding.
        width: Number of features F.
    """

    zero: Tensor

    def __init__(self, sizes: Mapping[str, int], width: int) -> None:
        super().__init__()
        self.maps = nn.ModuleDict({m: nn.Linear(size, width) for m, size in sizes.items()})
        self.register_buffer("zero", torch.zeros(width), persistent=False)

    def forward(self, encoded: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Features ``(B, F)`` of each row.

        Args:
            encoded: The encodings ``(n_m, size)`` of each modality of the batch.
            batch: The rows; modalities that the pool was not built for are not read.
        """
        total: Tensor = self.zero.expand(len(batch), -1)
        for m in (name for name in batch.names if name in self.maps):
            rows, values = batch.match(m, None)[0], self.maps[m](encoded[m]).to(total)
            total = total + values if rows is None else total.index_add(0, rows, values)
        return total


@final
class SubsetEncoder(nn.Module):
    """A normal of z for each row from whatever modalities it has.

    Args:
        sizes: Number of values of each modality's encoding.
        latent_dim: Dimensions D.
        hidden: Widths of the hidden layers; the first is that of the pool.
    """

    def __init__(self, sizes: Mapping[str, int], latent_dim: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.pool = Pool(sizes, hidden[0])
        body, width = layers(hidden[0], hidden[1:], "relu", False, 0.0)
        self.body = nn.Sequential(nn.ReLU(), *body)
        self.head = LatentHead(width, latent_dim)

    def forward(self, encoded: Mapping[str, Tensor], batch: Batch) -> DiagonalNormal:
        """The normals ``(B, D)``; arguments as of ``Pool``."""
        found: Encoded = self.head(self.body(self.pool(encoded, batch)))
        return DiagonalNormal(full(found.loc), full(found.log_scale))
