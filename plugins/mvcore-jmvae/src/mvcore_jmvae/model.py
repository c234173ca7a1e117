"""JMVAE: a joint encoder, and for each modality a surrogate of the posterior given it alone."""

from __future__ import annotations

import math
from typing import final

from mvcore.build import build_joint_encoder, build_parts
from mvcore.data import Batch, Schema
from mvcore.losses import LossOutput, warmed
from mvcore.models import SurrogateModel
from mvcore_jmvae import JMVAEConfig


@final
class JMVAE(SurrogateModel):
    r"""Joint multimodal VAE: a joint encoder :math:`q(z|X)`, and surrogates :math:`q_m(z|x_m)`.

    A complete row has the loss

    .. math::
        -E_{q(z|X)} \sum_m r_m \log p(x_m|z) + a \Big(\beta KL(q(z|X)\|p) + \alpha \sum_m KL(q(z|X)\|q_m)\Big)

    with a warm-up a. A row that has O, but not all, of which the paper has none, takes
    :math:`-E_{q_O} \sum_{m \in O} r_m \log p(x_m|z) + a \beta KL(q_O\|p)`, a negative bound of :math:`\log p(x_O)` for
    β = r = 1, where :math:`q_O` is what it is inferred by: with λ and μ the surrogates' precisions and means,
    ``exact``: the precision Σλ − (\|O\| − 1), at least min(1, min λ), and the mean Σλμ over it. Surrogates that are
    exact posteriors, each with the prior in it, then give the exact posterior of every O.

    Args:
        schema: The modalities.
        parts: Their input transforms, encoders, decoders and weights.
        joint_encoder: The joint encoder.
        config: The numbers.

    References:
        | Joint Multimodal Learning with Deep Generative Models (Suzuki et al., 2016)
        | https://arxiv.org/abs/1611.01891
    """

    config: JMVAEConfig
    takes_padded = True

    def forward(self, batch: Batch, *, epoch: float = math.inf, stage: str | None = None) -> LossOutput:
        """The loss and its terms, which sum to it, in nats.

        Raises:
            DataError: If a row lacks a modality and ``partial`` is ``refuse``.
        """
        batch = self.widened(batch)
        if not batch.complete:
            self.check_rows(batch.observed)
        encodings, grown = self.encode_modalities(batch), warmed(1.0, self.config.warmup, epoch)
        rows = self.bound_terms(batch, self.infer(encodings), kl=grown * self.config.beta)
        apart = self.from_surrogates(encodings)
        rows |= {f"surrogate/{m}": grown * self.config.alpha * kl for m, kl in apart.items()}
        return LossOutput.from_rows(rows)


def build(config: JMVAEConfig, schema: Schema) -> JMVAE:
    """A JMVAE from its config."""
    parts = build_parts(config, schema)
    return JMVAE(
        schema, parts=parts, joint_encoder=build_joint_encoder(config, schema, config.joint_hidden), config=config
    )
