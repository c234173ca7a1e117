"""Blocks of a hierarchy whose latents are vectors, between the modalities' encoders and decoders."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from mvcore.distributions import Encoded
from mvcore.nn import Encoder, LatentHead
from mvcore_mhvae.densities import Steps

#: Bound of locations and log-scales, as in the official code: 10 tanh(x / 10).
BOUND = 10.0


def bounded(x: Tensor) -> Tensor:
    """The values, softly held within ±10."""
    return BOUND * torch.tanh(x / BOUND)


@final
class VectorEncoder(nn.Module):
    """A modality's encoder, then a layer for each level; from ``(n, *input_shape)`` to ``Steps``.

    Args:
        encoder: The modality's encoder, to ``Encoded`` of half the width.
        levels: Levels L.
        width: Width of the layers.
        latent_dim: Dimensions of the deepest latent.
    """

    def __init__(self, encoder: Encoder, levels: int, width: int, latent_dim: int) -> None:
        super().__init__()
        assert isinstance(encoder, nn.Module)
        self.encoder = encoder
        self.layers = nn.ModuleList(_layer(width, width) for _ in range(levels - 1))
        self.head = VectorHead(width, latent_dim)

    def forward(self, x: Tensor, mask: Tensor | None = None, context: Tensor | None = None) -> Steps:
        """The features of each level ``(n, width)``, the first those of the encoder, and the deepest expert."""
        encoded: Encoded = self.encoder(x, mask, context)
        features = [torch.cat([encoded.loc, encoded.log_scale], 1)]
        for layer in self.layers:
            features.append(layer(features[-1]))
        return Steps(tuple(features[:-1]), self.head(features[-1]))


@final
class VectorHead(nn.Module):
    """Features ``(n, width)`` to a normal ``(n, D)``, its parameters softly held within ±10."""

    def __init__(self, width: int, latent_dim: int) -> None:
        super().__init__()
        self.head = LatentHead(width, latent_dim)

    def forward(self, h: Tensor) -> Encoded:
        """The parameters."""
        encoded: Encoded = self.head(h)
        return Encoded(bounded(encoded.loc), bounded(encoded.log_scale))


@final
class VectorExpert(nn.Module):
    """The features of the latents above and of the modality ``(n, width)`` each, to an expert ``(n, D)``."""

    def __init__(self, width: int, latent_dim: int) -> None:
        super().__init__()
        self.layer, self.head = _layer(2 * width, width), VectorHead(width, latent_dim)

    def forward(self, h: Tensor, features: Tensor) -> Encoded:
        """The parameters."""
        encoded: Encoded = self.head(self.layer(torch.cat([h, features], 1)))
        return encoded


def vector_top_down(latent_dim: int, width: int) -> nn.Module:
    """From the latent above ``(n, D)`` to the features of a level."""
    return _layer(latent_dim, width)


def _layer(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(before, after), nn.SiLU())
