"""CVAE: a VAE of a main modality, conditioned on any subset of the others."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor

from mvcore.build import Parts, build_parts
from mvcore.data import Batch, Schema, kept_at_random, widened
from mvcore.distributions import DiagonalNormal, Latents
from mvcore.errors import DataError
from mvcore.inference import Encodings, log_likelihoods
from mvcore.likelihoods import Observation
from mvcore.losses import LossOutput, warmed
from mvcore.models import Model
from mvcore_cvae import CVAEConfig
from mvcore_cvae.densities import Conditional
from mvcore_cvae.networks import Pool, SubsetEncoder


@final
class CVAE(Model):
    r"""A main modality y given any subset c of the others: :math:`p(y|c) = \int p(y|z,c)\,p(z|c)\,dz`.

    .. math:: -E_{q(z|y,c)}\, r \log p(y|z,c) + \beta\, KL(q(z|y,c)\|p(z|c))

    bounds :math:`-\log p(y|c)` for r = β = 1; c is what a row has of the conditions, in training less what is hidden at
    random. A row without y has no loss: 0, which counts in the mean over the rows. Its latent is drawn from p(z|c).
    What is generated, imputed and scored is y alone.

    Args:
        schema: The modalities.
        parts: Their input transforms and encoders, and the decoder of the main one, from ``(n, D + F)``.
        posterior_encoder: q(z|y,c), of the encodings of all that a row has.
        prior_encoder: p(z|c), of those of its conditions; None for the standard normal.
        condition_features: What the decoder is told of the conditions ``(n, F)``; None for nothing.
        config: The numbers.

    References:
        | Learning Structured Output Representation using Deep Conditional Generative Models (Sohn et al., 2015)
        | https://papers.nips.cc/paper/2015/hash/8d55a249e6baa5c06772297520da2051-Abstract.html
    """

    config: CVAEConfig

    def __init__(
        self,
        schema: Schema,
        *,
        parts: Parts,
        posterior_encoder: SubsetEncoder,
        prior_encoder: SubsetEncoder | None,
        condition_features: Pool | None,
        config: CVAEConfig,
    ) -> None:
        super().__init__(schema, inputs=parts.inputs, encoders=parts.encoders, decoders=parts.decoders, config=config)
        self.main, self.weight = config.main_of(schema), parts.modality_weights[config.main_of(schema)]
        self.posterior_encoder, self.prior_encoder = posterior_encoder, prior_encoder
        self.condition_features = condition_features

    def forward(self, batch: Batch, *, epoch: float = math.inf, stage: str | None = None) -> LossOutput:
        """The loss of a batch; its terms, in nats, sum to it."""
        batch = widened(batch, self.schema, next(self.parameters()))
        trained = batch.column(self.main)
        rows = trained.nonzero().squeeze(1).to(batch.device, non_blocking=True)
        terms = self._terms(self._less_conditions(batch if bool(trained.all()) else batch.select(trained)), epoch)
        return LossOutput.from_rows({n: v.new_zeros(len(batch)).index_copy(0, rows, v) for n, v in terms.items()})

    def encode_modalities(self, batch: Batch) -> Encodings:
        """The encodings of each modality, of the rows that have it ``(n_m, size)``."""
        return Encodings(batch, {m: torch.cat([e.loc, e.log_scale], 1) for m, e in self.encode_each(batch).items()})

    def posterior(self, encodings: Encodings) -> Conditional:
        """q(z|y,c) of rows that have the main modality, p(z|c) of others."""
        given, have = self.prior(encodings), encodings.batch.column(self.main)
        if not bool(have.any()):
            return given
        q = self.posterior_encoder(encodings.experts, encodings.batch)
        if bool(have.all()):
            return Conditional(q, given.conditions)
        rows = have.nonzero().squeeze(1).to(given.conditions.device, non_blocking=True)
        return Conditional(given.density.replaced(rows, q.take(rows)), given.conditions)

    def prior(self, encodings: Encodings | None = None) -> Conditional:
        """p(z|c), c what the rows have of the conditions; without encodings, of one row that has none."""
        if encodings is None:
            encodings = Encodings(Batch({}, torch.ones(1, 0, dtype=torch.bool), device=self.device), {})
        told = self._told(encodings)
        if self.prior_encoder is None:
            return Conditional(DiagonalNormal.unit(len(told), self.config.latent_dim, like=told), told)
        return Conditional(self.prior_encoder(encodings.experts, encodings.batch), told)

    def decode(self, latents: Mapping[str, Tensor], name: str, context: Tensor | None = None) -> Observation:
        """Decodes the main modality from z and the features of the conditions."""
        both = torch.cat([latents["shared"], latents["conditions"].to(latents["shared"])], -1)
        observation: Observation = self.decoders[name](both, context)
        return observation

    def check_training(self, observed: Tensor) -> None:
        """Raises a DataError if no row has the main modality."""
        if not bool(observed[:, self.schema.names.index(self.main)].any()):
            raise DataError(
                f"None of {len(observed)} rows has {self.main!r}, the main modality, and only such rows train a CVAE. "
                "Build it with another one, main=…."
            )

    def _told(self, encodings: Encodings) -> Tensor:
        """The features of the conditions of each row ``(B, F)``."""
        if self.condition_features is None:
            return next(self.parameters()).new_zeros(len(encodings.batch), 0)
        features: Tensor = self.condition_features(encodings.experts, encodings.batch)
        return features

    def _less_conditions(self, batch: Batch) -> Batch:
        """The rows without the conditions that training hides; the main modality stays."""
        if not (self.training and self.config.condition_dropout):
            return batch
        kept = kept_at_random(batch.observed, self.config.condition_dropout)
        kept[:, batch.names.index(self.main)] = True
        return batch.keep(kept)

    def _terms(self, batch: Batch, epoch: float) -> dict[str, Tensor]:
        """The negative bound of each row ``(B,)``, all of which have the main modality."""
        encodings = self.encode_modalities(batch)
        given = self.prior(encodings)
        q = self.posterior_encoder(encodings.experts, batch)
        latents: Latents = Conditional(q, given.conditions).draw(self.config.samples)
        scored = log_likelihoods(self, batch, latents)[self.main].mean(0)
        beta = warmed(self.config.beta, self.config.warmup, epoch)
        return {f"reconstruction/{self.main}": -self.weight * scored, "kl": beta * q.kl(given.density)}


def build(config: CVAEConfig, schema: Schema) -> CVAE:
    """A CVAE from its config."""
    main = config.main_of(schema)
    dims = dict.fromkeys(schema.names, config.encoding_dim)
    decoded = {main: config.latent_dim + config.condition_dim}
    sizes = {m: 2 * size for m, size in dims.items()}  # an encoding is two vectors, as an encoder gives them
    conditions = {m: size for m, size in sizes.items() if m != main}
    learned = config.prior == "learned"
    return CVAE(
        schema,
        parts=build_parts(config, schema, latent_dims=dims, decoded_dims=decoded, generated=(main,)),
        posterior_encoder=SubsetEncoder(sizes, config.latent_dim, config.hidden),
        prior_encoder=SubsetEncoder(conditions, config.latent_dim, config.hidden) if learned else None,
        condition_features=Pool(conditions, config.condition_dim) if config.condition_dim else None,
        config=config,
    )
