"""The product of experts, over any set of subsets: MVAE, MMVAE and MoPoE differ in the set alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor

from mvcore.data.schema import ModalitySpec
from mvcore.distributions.diagonal import Diagonal, DiagonalNormal
from mvcore.distributions.names import Family, ScaleMap
from mvcore.errors import ConfigError
from mvcore.posteriors.base import JointPosterior
from mvcore.posteriors.specs import PriorExpert, ProductConfig, Subsets


@final
class ProductOfExperts(JointPosterior):
    r"""Fuses each subset by :math:`q_S(z) \propto p(z)^{[\text{prior}]} \prod_{m \in S} q_m(z)`.

    With the subsets ``observed`` this is the posterior of MVAE, with ``each`` the mixture of experts of MMVAE (no
    product is taken, so the family is free), with ``all`` the mixture of products of MoPoE.

    References:
        | Multimodal Generative Models for Scalable Weakly-Supervised Learning (Wu & Goodman, 2018)
        | https://arxiv.org/abs/1802.05335
        | Generalized Multimodal ELBO (Sutter et al., 2021)
        | https://arxiv.org/abs/2105.02470
    """

    def __init__(
        self,
        modalities: Sequence[str],
        *,
        subsets: Subsets = "observed",
        prior_expert: PriorExpert = "every",
        family: Family = "normal",
        scale: ScaleMap = "exp",
    ) -> None:
        if family == "laplace" and (subsets, prior_expert) != ("each", "none"):
            raise ConfigError(
                ["a product of Laplace experts is not Laplace; set subsets='each' and prior_expert='none', got "
                 f"subsets={subsets!r} and prior_expert={prior_expert!r}"], "posterior",
            )  # fmt: skip
        super().__init__(modalities, subsets=subsets, prior_expert=prior_expert, family=family, scale=scale)

    def fuse(self, experts: Diagonal, S: Tensor) -> Diagonal:
        """One matrix product over all subsets; an absent expert has precision 0."""
        precision = torch.exp(-2 * experts.log_scale)
        shape = experts.loc.shape[1:]
        total = S @ precision.flatten(1)
        weighted = S @ (precision * experts.loc).flatten(1)
        return DiagonalNormal.natural(total.unflatten(1, shape), weighted.unflatten(1, shape))


def build(
    config: ProductConfig, *, modalities: Sequence[ModalitySpec], latent_dim: int, private_dims: Mapping[str, int]
) -> ProductOfExperts:
    """A product of experts."""
    return ProductOfExperts(
        [m.name for m in modalities], subsets=config.subsets, prior_expert=config.prior_expert, family=config.family,
        scale=config.scale,
    )  # fmt: skip
