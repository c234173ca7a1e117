"""The barycentre of normal experts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

from torch import Tensor

from mvcore.data import ModalitySpec
from mvcore.distributions import Diagonal, DiagonalNormal
from mvcore.posteriors import JointPosterior
from mvcore_example import BarycentreConfig


@final
class Barycentre(JointPosterior):
    """The 2-Wasserstein barycentre of each subset's experts: the means of their locations and of their scales."""

    def fuse(self, experts: Diagonal, S: Tensor) -> Diagonal:
        """Fuses ``experts (E, B, D)`` over the subsets ``S (C, E)`` into ``(C, B, D)``; absent ones add nothing."""
        present = experts.log_scale.isfinite()
        have = present.to(experts.loc).flatten(1)
        members = (S @ have).clamp(min=1)
        loc = S @ experts.loc.flatten(1) / members
        scale = S @ experts.log_scale.where(present, 0).exp().where(present, 0).flatten(1) / members
        shape = experts.loc.shape[1:]
        log_scale = scale.where(scale > 0, 1).log()
        return DiagonalNormal(loc.unflatten(1, shape), log_scale.unflatten(1, shape))


def build(
    config: BarycentreConfig,
    *,
    modalities: Sequence[ModalitySpec],
    latent_dim: int,
    private_dims: Mapping[str, int],
) -> Barycentre:
    """The posterior of a config."""
    return Barycentre([m.name for m in modalities], subsets=config.subsets)
