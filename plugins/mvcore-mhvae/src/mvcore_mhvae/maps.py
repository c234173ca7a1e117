"""Blocks of a hierarchy whose latents are maps above a deepest vector, for images of one height and width."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import final

import torch
from torch import Tensor, nn

from mvcore.distributions import Encoded
from mvcore.nn import joined
from mvcore_mhvae.densities import Steps
from mvcore_mhvae.vectors import VectorHead, bounded

#: Channels, height and width.
Shape = tuple[int, int, int]


@final
class MapEncoder(nn.Module):
    """A convolution that halves the image for each level; covariates join the last one's flat features.

    Args:
        channels: Channels of the image.
        shapes: Shapes of the features of each level, L in all.
        latent_dim: Dimensions of the deepest latent.
        context_dim: Number C of covariates.
    """

    def __init__(self, channels: int, shapes: Sequence[Shape], latent_dim: int, context_dim: int = 0) -> None:
        super().__init__()
        widths = [channels, *(shape[0] for shape in shapes)]
        self.layers = nn.ModuleList(
            # of odd sizes the half is rounded up
            nn.Sequential(nn.Conv2d(before, after, 3, stride=2, padding=1), nn.SiLU())
            for before, after in pairwise(widths)
        )
        self.context_dim = context_dim
        self.head = VectorHead(prod(shapes[-1]) + context_dim, latent_dim)

    def forward(self, x: Tensor, mask: Tensor | None = None, context: Tensor | None = None) -> Steps:
        """The features of each level, and the deepest expert; unknown cells are 0 already."""
        features = [self.layers[0](x)]
        for layer in list(self.layers)[1:]:
            features.append(layer(features[-1]))
        flat = joined(features[-1].flatten(1), context, self.context_dim)
        return Steps(tuple(features[:-1]), self.head(flat))


@final
class MapHead(nn.Module):
    """Features ``(n, channels, h, w)`` to a normal over flat maps ``(n, C · h · w)``, held within ±10."""

    def __init__(self, channels: int, map_channels: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(channels, 2 * map_channels, 1)

    def forward(self, h: Tensor) -> Encoded:
        """The parameters."""
        loc, log_scale = bounded(self.head(h)).chunk(2, dim=1)
        return Encoded(loc.flatten(1), log_scale.flatten(1))


@final
class MapExpert(nn.Module):
    """The features of the latents above and of the modality, maps of one shape, to an expert."""

    def __init__(self, channels: int, map_channels: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Conv2d(2 * channels, channels, 3, padding=1), nn.SiLU())
        self.head = MapHead(channels, map_channels)

    def forward(self, h: Tensor, features: Tensor) -> Encoded:
        """The parameters."""
        encoded: Encoded = self.head(self.layer(torch.cat([h, features], 1)))
        return encoded


def map_top_down(above: Shape, shape: Shape) -> nn.Module:
    """From the flat latent map above to the features of a level."""
    return nn.Sequential(nn.Unflatten(1, above), *_grown(above[0], shape))


def deepest_top_down(latent_dim: int, shape: Shape) -> nn.Module:
    """From the deepest latent ``(n, D)`` to the features of the level below it."""
    return nn.Sequential(nn.Linear(latent_dim, prod(shape)), nn.SiLU(), nn.Unflatten(1, shape))


@final
class MapDecoder(nn.Module):
    """A flat latent map, or the deepest latent where it is the only one, to ``(n, P, channels, height, width)``.

    Args:
        latent: Shape of the latent; one dimension for a vector.
        half: Shape of the features at half the image's size.
        shape: Shape of the image.
        n_outputs: Outputs P for each value.
        context_dim: Number C of covariates, which are laid beside the latent at every place.
    """

    def __init__(
        self, latent: tuple[int, ...], half: Shape, shape: Shape, n_outputs: int = 1, context_dim: int = 0
    ) -> None:
        super().__init__()
        self.context_dim, self.shape = context_dim, (n_outputs, *shape)
        if len(latent) == 1:
            self.first = deepest_top_down(latent[0], half)
        else:
            body = [nn.Conv2d(latent[0], half[0], 3, padding=1), nn.SiLU()]
            self.first = nn.Sequential(nn.Unflatten(1, latent), *body)
        grown = _grown(half[0] + context_dim, (half[0], *shape[1:]))
        self.body = nn.Sequential(*grown, nn.Conv2d(half[0], n_outputs * shape[0], 3, padding=1))

    def forward(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Decodes ``z (n, D)``."""
        h: Tensor = self.first(z)
        if self.context_dim:
            assert context is not None
            h = torch.cat([h, context.to(h)[:, :, None, None].expand(-1, -1, *h.shape[2:])], 1)
        outputs: Tensor = self.body(h).unflatten(1, self.shape[:2])
        return outputs


def _grown(before: int, shape: Shape) -> list[nn.Module]:
    """A map of any size to features of a shape."""
    channels, *size = shape
    first = [nn.Conv2d(before, channels, 3, padding=1), nn.SiLU(), nn.Upsample(tuple(size))]
    return [*first, nn.Conv2d(channels, channels, 3, padding=1), nn.SiLU()]
