"""The standard prior of the shared and the private latents."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor, nn

from mvcore.data.schema import ModalitySpec
from mvcore.distributions.diagonal import FAMILIES, Diagonal
from mvcore.distributions.mixture import Mixture
from mvcore.distributions.names import Family, ScaleMap
from mvcore.priors.base import Prior
from mvcore.priors.specs import StandardPriorConfig
from mvcore.validators import check_choice


@final
class StandardPrior(Prior):
    """Location 0 and scale 1, or a learned scale, shared by all rows; private latents keep scale 1.

    Args:
        latent_dim: Dimensions of the shared latent.
        private_dims: Dimensions of the private ones.
        family: ``normal`` or ``laplace``; that of the posterior.
        learn_scale: Whether the scale of the shared latent is learned.
        scale: The map to the learned scale: ``exp``, or ``softmax`` (D · softmax, Shi et al., 2019).
    """

    zeros: Tensor

    def __init__(
        self,
        latent_dim: int,
        private_dims: Mapping[str, int] | None = None,
        *,
        family: Family = "normal",
        learn_scale: bool = False,
        scale: ScaleMap = "exp",
    ) -> None:
        super().__init__()
        check_choice("family", family, Family)
        check_choice("scale", scale, ScaleMap)
        self.family, self.scale, self.private_dims = FAMILIES[family], scale, dict(private_dims or {})
        self.log_scale = nn.Parameter(torch.zeros(latent_dim)) if learn_scale else None
        longest = max(latent_dim, *self.private_dims.values(), 0)
        self.register_buffer("zeros", torch.zeros(longest), persistent=False)
        self.latent_dim = latent_dim

    def forward(self) -> Mixture:
        """The density of the shared latent."""
        density = self._unit(self.latent_dim)
        if self.log_scale is not None:
            log_scale: Tensor = self.log_scale
            if self.scale == "softmax":
                log_scale = log_scale.log_softmax(-1) + math.log(len(log_scale))
            density = self.family(density.loc, log_scale.expand(1, -1))
        return Mixture(density[None], self.zeros.new_ones(1, 1), torch.ones(1, 1, dtype=torch.bool))

    def private(self, name: str) -> Diagonal:
        """The density of a private latent."""
        return self._unit(self.private_dims[name])

    def _unit(self, size: int) -> Diagonal:
        zeros = self.zeros[None, :size]
        return self.family(zeros, zeros, standard=True)


def build(
    config: StandardPriorConfig,
    *,
    modalities: Sequence[ModalitySpec],
    latent_dim: int,
    private_dims: Mapping[str, int],
) -> StandardPrior:
    """A standard prior."""
    return StandardPrior(
        latent_dim, private_dims, family=config.family, learn_scale=config.learn_scale, scale=config.scale
    )
