"""Autoencoders of all modalities from each code, whose codes are matched to a standard normal prior."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol, final

from torch import Tensor, nn

from mvcore.build import Parts, build_parts
from mvcore.data import Batch, Schema
from mvcore.distributions import JointDistribution
from mvcore.inference import Encodings
from mvcore.losses import LossOutput
from mvcore.models import Autoencoder
from mvcore.priors import StandardPrior
from mvcore_maae import MAAEConfig, MWAEConfig
from mvcore_maae.matching import Adversary, Discrepancy


class Matching(Protocol):
    """A module that draws codes to the standard normal."""

    def __call__(self, codes: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Terms of the loss ``(B,)`` from the codes ``(n_m, D)`` of each modality of a batch."""
        ...


@final
class MatchedAutoencoder(Autoencoder):
    r"""Autoencoders whose codes are matched to a prior: mAAE by a discriminator, mWAE by a kernel.

    .. math::
        -\frac{1}{|O|} \sum_{c \in O} \sum_{m \in O} r_m \log p(x_m|z_c) + \lambda\,\text{matching}(z)

    with the codes :math:`z_c` of the encoders, which are matched to the standard normal. ``generate`` draws from it.
    A code is a point, so no row has a likelihood.

    Args:
        schema: The modalities.
        parts: Their input transforms, encoders, decoders and weights.
        matching: What draws the codes to the prior.
        config: The config the model was built from.

    References:
        | Adversarial Autoencoders (Makhzani et al., 2015), https://arxiv.org/abs/1511.05644
        | Wasserstein Auto-Encoders (Tolstikhin et al., 2018), https://arxiv.org/abs/1711.01558
    """

    config: MAAEConfig | MWAEConfig

    def __init__(self, schema: Schema, *, parts: Parts, matching: nn.Module, config: MAAEConfig | MWAEConfig) -> None:
        super().__init__(schema, parts=parts, latent_dim=config.latent_dim, config=config)
        self.matching, self.latent_prior = matching, StandardPrior(config.latent_dim)

    def prior(self, encodings: Encodings | None = None) -> JointDistribution:
        """The standard normal."""
        return JointDistribution(self.latent_prior(), {}, None if encodings is None else encodings.batch)

    def forward(self, batch: Batch, *, epoch: float = math.inf, stage: str | None = None) -> LossOutput:
        """The loss and its terms, which sum to it."""
        batch = self.widened(batch)
        codes = self.encode_modalities(batch).experts
        return LossOutput.from_rows(self.reconstruction_from_each(batch, codes) | self.matching(codes, batch))


def build_maae(config: MAAEConfig, schema: Schema) -> MatchedAutoencoder:
    """An adversarial autoencoder from its config."""
    adversary = Adversary(config.latent_dim, hidden=config.discriminator_hidden, weight=config.matching)
    return MatchedAutoencoder(schema, parts=build_parts(config, schema), matching=adversary, config=config)


def build_mwae(config: MWAEConfig, schema: Schema) -> MatchedAutoencoder:
    """A Wasserstein autoencoder from its config."""
    discrepancy = Discrepancy(scales=config.scales, weight=config.matching)
    return MatchedAutoencoder(schema, parts=build_parts(config, schema), matching=discrepancy, config=config)
