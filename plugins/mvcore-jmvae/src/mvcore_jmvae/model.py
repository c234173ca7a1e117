"""JMVAE: a joint encoder, and for each modality a surrogate of the posterior given it alone."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor

from mvcore.build import Parts, build_joint_encoder, build_parts
from mvcore.data import Batch, Schema
from mvcore.distributions import DiagonalNormal, JointDistribution, Latents, Mixture, full
from mvcore.inference import Encodings, log_likelihoods
from mvcore.losses import LossOutput, warmed
from mvcore.models import JointModel
from mvcore.nn import JointEncoder
from mvcore_jmvae import JMVAEConfig


@final
class JMVAE(JointModel):
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

    def __init__(self, schema: Schema, *, parts: Parts, joint_encoder: JointEncoder, config: JMVAEConfig) -> None:
        super().__init__(
            schema, parts=parts, joint_encoder=joint_encoder, latent_dim=config.latent_dim, partial=config.partial,
            rule="elbo", config=config,
        )  # fmt: skip

    def forward(self, batch: Batch, *, epoch: float = math.inf, stage: str | None = None) -> LossOutput:
        """The loss and its terms, which sum to it, in nats.

        Raises:
            DataError: If a row lacks a modality and ``partial`` is ``refuse``.
        """
        batch = self.widened(batch)
        self.check_rows(batch.observed)
        encodings, grown = self.encode_modalities(batch), warmed(1.0, self.config.warmup, epoch)
        q = self._infer(encodings)
        latents = Latents({"shared": q.rsample(self.config.samples)}, len(batch))
        scored = log_likelihoods(self, batch, latents)
        rows = {f"reconstruction/{m}": -self.modality_weights[m] * latents.mean(v) for m, v in scored.items()}
        rows["kl"] = grown * self.config.beta * q.kl(self.latent_prior().components[0])
        rows |= {f"surrogate/{m}": grown * self.config.alpha * self._from_surrogate(encodings, m) for m in batch.names}
        return LossOutput.from_rows(rows)

    def encode_modalities(self, batch: Batch) -> Encodings:
        """Encodes each modality once, and the complete rows jointly."""
        encoded = self.encode_each(batch)
        surrogates = {m: DiagonalNormal(full(e.loc), full(e.log_scale)) for m, e in encoded.items()}
        joint = self.encode_jointly(batch) if set(batch.names) == set(self.schema.names) else None
        return Encodings(batch, surrogates, joint)

    def posterior(self, encodings: Encodings) -> JointDistribution:
        """The joint posterior of complete rows, the product of the surrogates of others; the prior without any."""
        q, B = self._infer(encodings), len(encodings.batch)
        shared = Mixture(q[None], q.loc.new_ones(1, B), torch.ones(1, B, dtype=torch.bool))
        return JointDistribution(shared, {}, encodings.batch)

    def _infer(self, encodings: Encodings) -> DiagonalNormal:
        """The posterior of each row ``(B, D)``."""
        fused = self._product(encodings)
        if encodings.joint is None:
            return fused
        whole = encodings.batch.observed.all(1).nonzero().squeeze(1).to(encodings.batch.device)
        return fused.replaced(whole, encodings.joint)

    def _product(self, encodings: Encodings) -> DiagonalNormal:
        """The product of the surrogates that each row has; the prior, if it has none."""
        batch, experts = encodings.batch, encodings.experts
        if not batch.names:
            return DiagonalNormal.unit(len(batch), self.config.latent_dim, like=self.latent_prior.zeros)
        with torch.autocast(batch.device.type, enabled=False):
            precisions = batch.dense([torch.exp(-2 * experts[m].log_scale) for m in batch.names], 0.0)
            means = batch.dense([experts[m].loc for m in batch.names], 0.0)
            precision, weighted = precisions.sum(0), (precisions * means).sum(0)
            if self.config.subsets == "exact":
                present = precisions.where(precisions > 0, 1)  # what is absent must not lower the least precision
                counts = batch.observed.sum(1, keepdim=True).to(precision)
                precision = torch.maximum(precision - (counts - 1), present.amin(0).clamp(max=1))
            return DiagonalNormal.natural(precision, weighted)

    def _from_surrogate(self, encodings: Encodings, name: str) -> Tensor:
        """KL(q(z|X) ‖ q_m) of complete rows ``(B,)``; 0 in others."""
        batch, joint = encodings.batch, encodings.joint
        whole = batch.observed.all(1)
        where = whole[batch.column(name)].nonzero().squeeze(1).to(batch.device)
        kl: Tensor = joint.kl(encodings.experts[name].take(where))
        return kl.new_zeros(len(batch)).index_copy(0, whole.nonzero().squeeze(1).to(batch.device), kl)


def build(config: JMVAEConfig, schema: Schema) -> JMVAE:
    """A JMVAE from its config."""
    parts = build_parts(config, schema)
    return JMVAE(
        schema, parts=parts, joint_encoder=build_joint_encoder(config, schema, config.joint_hidden), config=config
    )
