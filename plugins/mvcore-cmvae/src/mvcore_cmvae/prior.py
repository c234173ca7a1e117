"""The prior of clusters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor, nn

from mvcore.data import ModalitySpec
from mvcore.distributions import FAMILIES, Diagonal, Family, Mixture, ScaleMap
from mvcore.priors import Prior, StandardPrior
from mvcore.validators import check_choice
from mvcore_cmvae import ClustersPriorConfig


@final
class ClustersPrior(Prior):
    r""":math:`p(u) = \sum_c \pi_c\, p(u \mid c)`; private latents have location 0 and scale 1.

    Args:
        latent_dim: Dimensions D of the shared latent.
        private_dims: Dimensions of the private ones.
        clusters: Clusters C. Their locations start uniform in [-1, 1], their weights equal.
        family: ``normal`` or ``laplace``; that of the posterior.
        learn_scale: Whether the scales of the clusters are learned; they are 1 otherwise.
        scale: The map to the learned scales: ``exp``, or ``softmax``: D · softmax.

    References:
        | Deep Generative Clustering with Multimodal Diffusion Variational Autoencoders (Palumbo et al., 2024)
        | https://openreview.net/forum?id=k5THrhXDV3
    """

    logits: Tensor

    def __init__(
        self,
        latent_dim: int,
        private_dims: Mapping[str, int] | None = None,
        *,
        clusters: int = 40,
        family: Family = "normal",
        learn_scale: bool = False,
        scale: ScaleMap = "exp",
    ) -> None:
        super().__init__()
        check_choice("scale", scale, ScaleMap)
        self.standard = StandardPrior(latent_dim, private_dims, family=family)
        self.family, self.scale = FAMILIES[family], scale
        self.loc = nn.Parameter(2 * torch.rand(clusters, latent_dim) - 1)
        if clusters > 1:
            self.logits = nn.Parameter(torch.zeros(clusters))
        else:  # its weight is 1, whatever is learned
            self.register_buffer("logits", torch.zeros(1))
        self.log_scale = nn.Parameter(torch.zeros(clusters, latent_dim)) if learn_scale else None

    def forward(self) -> Mixture:
        """The density of the shared latent, ``(C, 1, D)``."""
        log_scale = torch.zeros_like(self.loc) if self.log_scale is None else self.log_scale
        if self.log_scale is not None and self.scale == "softmax":
            log_scale = log_scale.log_softmax(-1) + math.log(log_scale.shape[-1])
        components = self.family(self.loc[:, None], log_scale[:, None])
        exists = torch.ones(len(self.loc), 1, dtype=torch.bool)
        return Mixture(components, self.logits.softmax(0)[:, None], exists)

    def private(self, name: str) -> Diagonal:
        """The density of a private latent."""
        return self.standard.private(name)

    def log_joint(self, u: Tensor) -> Tensor:
        """Log π_c + log p(u | c) of each point ``(n, D)``: ``(n, C)``, in nats."""
        prior = self()
        joint: Tensor = prior.log_weights + prior.components.log_prob(u)
        return joint.T


def build(
    config: ClustersPriorConfig,
    *,
    modalities: Sequence[ModalitySpec],
    latent_dim: int,
    private_dims: Mapping[str, int],
) -> ClustersPrior:
    """A prior of clusters."""
    return ClustersPrior(
        latent_dim, private_dims, clusters=config.clusters, family=config.family, learn_scale=config.learn_scale,
        scale=config.scale,
    )  # fmt: skip
