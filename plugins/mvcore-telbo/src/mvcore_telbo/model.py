"""TELBO: a joint VAE, and for each modality a surrogate of the posterior given it alone, trained by its own bound."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import final

from torch import Tensor

from mvcore.build import Parts, build_joint_encoder, build_parts
from mvcore.data import Batch, Schema
from mvcore.distributions import DiagonalNormal, Latents
from mvcore.errors import DataError
from mvcore.inference import Encodings, log_likelihoods
from mvcore.losses import LossOutput
from mvcore.models import Stage, SurrogateModel, without_gradient
from mvcore.nn import JointEncoder
from mvcore.validators import per_modality
from mvcore_telbo import TELBOConfig


@final
class TELBO(SurrogateModel):
    r"""Triple ELBO: a joint encoder :math:`q(z|X)`, and surrogates :math:`q_m(z|x_m)`, each with a bound of its own.

    The stage ``joint`` minimises :math:`-E_{q(z|X)} \sum_m r_m \log p(x_m|z) + KL(q(z|X)\|p)` on complete rows, and the
    same with the product of its surrogates for a row that has O, but not all, of which the paper has none. The stage
    ``surrogates`` then minimises, joint encoder and decoders frozen,

    .. math:: \sum_{m \in O} \big[-\gamma_m r_m E_{q_m} \log p(x_m|z) + KL(q_m\|p)\big]

    of every row, each surrogate by what it has. A single stage minimises the sum of both, with no gradient from the
    surrogates' bounds to the decoders' parameters.

    Args:
        schema: The modalities.
        parts: Their input transforms, encoders, decoders and weights.
        joint_encoder: The joint encoder.
        config: The numbers.

    Raises:
        ConfigError: If ``gamma`` names a modality that there is not.

    References:
        | Generative Models of Visually Grounded Imagination (Vedantam et al., 2018)
        | https://arxiv.org/abs/1705.10762
    """

    config: TELBOConfig

    def __init__(self, schema: Schema, *, parts: Parts, joint_encoder: JointEncoder, config: TELBOConfig) -> None:
        super().__init__(schema, parts=parts, joint_encoder=joint_encoder, config=config)
        self.gamma = per_modality("gamma", config.gamma, schema.names, 1.0)

    def stages(self) -> Sequence[Stage]:
        """First the joint VAE, then the surrogates; or both at once."""
        if self.config.stages == "one":
            return (Stage("train"),)
        share, idle = self.config.joint_share, self.config.partial == "refuse"
        return (
            Stage("joint", share, frozen=(self.encoders,) if idle else ()),
            Stage("surrogates", 1 - share, frozen=(self.joint_encoder, self.decoders)),
        )

    def forward(self, batch: Batch, *, epoch: float = math.inf, stage: str | None = None) -> LossOutput:
        """The loss of a stage and its terms, which sum to it, in nats.

        Raises:
            DataError: If a row lacks a modality and ``partial`` is ``refuse``, or there is no such stage.
        """
        names = [s.name for s in self.stages()]
        if stage not in (None, *names):
            raise DataError(f"This TELBO has the stages {', '.join(map(repr, names))}, not {stage!r}.")
        batch = self.widened(batch)
        self.check_rows(batch.observed)
        if stage == "surrogates":
            return LossOutput.from_rows(self._surrogate_terms(batch, self.surrogates(batch)))
        if self.config.stages == "two":
            return LossOutput.from_rows(self.bound_terms(batch, self._infer_once(batch)))
        encodings = self.encode_modalities(batch)
        rows = self.bound_terms(batch, self.infer(encodings))
        return LossOutput.from_rows(rows | self._surrogate_terms(batch, encodings.experts))

    def _infer_once(self, batch: Batch) -> DiagonalNormal:
        """The posterior of each row ``(B, D)``; complete rows need no surrogate and run none."""
        whole, joint = batch.observed.all(1), self.encode_jointly(batch)
        partial = batch.select(~whole)
        q = self.infer(Encodings(partial, self.surrogates(partial)))
        rows = [mask.nonzero().squeeze(1).to(batch.device) for mask in (whole, ~whole)]
        return (
            DiagonalNormal.unit(*whole.shape, q.loc.shape[-1], like=q.loc).replaced(rows[0], joint).replaced(rows[1], q)
        )

    def _surrogate_terms(self, batch: Batch, surrogates: Mapping[str, DiagonalNormal]) -> dict[str, Tensor]:
        """The negative bound of each modality by its surrogate, ``(B,)``; 0 in rows without it."""
        with without_gradient(self.decoders):
            return {f"surrogate/{m}": self._bound(batch, m, surrogates[m]) for m in batch.names}

    def _bound(self, batch: Batch, name: str, q: DiagonalNormal) -> Tensor:
        K, rows = self.config.samples, batch.column(name).nonzero().squeeze(1)
        latents = Latents({"shared": q.rsample(K)}, len(batch), rows=rows)
        scored = log_likelihoods(self, batch.only([name]), latents)[name]
        weight = self.gamma[name] * self.modality_weights[name]
        return latents.sum(q.kl(self.latent_prior().components[0]) - weight * scored) / K


def build(config: TELBOConfig, schema: Schema) -> TELBO:
    """A TELBO from its config."""
    parts = build_parts(config, schema)
    return TELBO(
        schema, parts=parts, joint_encoder=build_joint_encoder(config, schema, config.joint_hidden), config=config
    )
