"""The composed model: any encoders, decoders, joint posterior, prior and loss."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from mvcore.data.batch import Batch
from mvcore.data.missing import kept_at_random
from mvcore.data.schema import Schema
from mvcore.data.transforms import InputTransform
from mvcore.distributions.diagonal import Diagonal
from mvcore.distributions.latents import How, Latents
from mvcore.distributions.likelihoods import LikelihoodDecoder
from mvcore.distributions.mixture import Mixture
from mvcore.distributions.observations import Observation
from mvcore.errors import DataError
from mvcore.losses.base import LossOutput
from mvcore.losses.elbo import ELBO
from mvcore.models.base import Model
from mvcore.models.encodings import Encodings
from mvcore.models.passes import Pass
from mvcore.models.priors import Prior, StandardPrior
from mvcore.models.trial import check_loss, refuse_batch_norm, try_decoder, try_encoder
from mvcore.plugins.spec import ModelConfig
from mvcore.posteriors.base import JointPosterior
from mvcore.posteriors.product import ProductOfExperts


@final
@dataclass(frozen=True)
class JointDistribution:
    """A density over the shared latent and, independent of it, the private ones of the modalities.

    Args:
        shared: The density of the shared latent.
        private: That of each private one, ``(B, D_m)`` or ``(1, D_m)``; the prior's in rows without the modality.
        batch: The rows; a private latent of an absent modality is drawn, but has no part in ``log_prob``.
    """

    shared: Mixture
    private: Mapping[str, Diagonal]
    batch: Batch | None = None

    def draw(self, K: int = 1, how: How = "random") -> Latents:
        """Draws ``shared`` and ``private/<modality>``."""
        latents = self.shared.draw(K, how)
        K = latents.K
        drawn = {}
        for name, density in self.private.items():
            rows = density.expand(latents.size)
            pairs = rows if latents.rows is None else rows.take(latents.row_index(density.loc.device))
            drawn[f"private/{name}"] = pairs.rsample(K)
        return latents.with_values(drawn)

    def log_prob(self, latents: Latents) -> Tensor:
        """Log-density in nats ``(K, N)``, without the private latents of absent modalities."""
        total = self.shared.log_prob(latents)
        for name in self.private:
            total = total + self.private_log_prob(name, latents)
        return total

    def private_log_prob(self, name: str, latents: Latents) -> Tensor:
        """Log-density ``(K, N)`` of one private latent; 0 in rows without the modality."""
        density, z = self.private[name], latents[f"private/{name}"]
        if latents.rows is not None and len(density.loc) > 1:
            density = density.take(latents.row_index(z.device))
        if self.batch is None:
            return density.log_prob(z)
        have = latents.per_row(self._have(name).to(z.device, non_blocking=True))
        return density.log_prob(z).where(have, 0)

    def private_kl(self, prior: JointDistribution) -> dict[str, Tensor]:
        """KL of each private density from the prior's ``(B,)``, 0 in rows without the modality."""
        pairs = {m: q.kl(prior.private[m]) for m, q in self.private.items()}
        return {m: kl.where(self._have(m).to(kl.device, non_blocking=True), 0) for m, kl in pairs.items()}

    def detach(self) -> JointDistribution:
        """The same density, its parameters cut from the graph."""
        return JointDistribution(self.shared.detach(), {m: q.detach() for m, q in self.private.items()}, self.batch)

    def point(self) -> Latents:
        """The means."""
        shared = self.shared.mean()[None]
        private = {f"private/{m}": q.loc.expand(shared.shape[1], -1)[None] for m, q in self.private.items()}
        return Latents({"shared": shared, **private}, shared.shape[1])

    def _have(self, name: str) -> Tensor:
        assert self.batch is not None
        return self.batch.column(name)


@final
class MultimodalVAE(Model):
    """A multimodal VAE composed of parts; every aggregated model is one with its paper's posterior, prior and loss.

    ``p(z) ∏ p(w_m) p(x_m | z, w_m)`` with a shared latent z and, where ``private_dims`` says so, private ones.

    Args:
        schema: The modalities.
        latent_dim: Dimensions D of the shared latent.
        encoders: For each modality a module from ``(n, *input_shape)`` (and a mask of its cells) to ``Encoded``.
        decoders: For each modality its network with its likelihood, from ``(n, D + D_m)``.
        posterior: The joint posterior; the product of experts with the prior by default.
        prior: The prior of shared and private latents; standard normal by default.
        loss: The objective; the negative ELBO by default.
        inputs: For each modality the transform before its encoder; none by default.
        private_dims: Dimensions D_m of the private latents; 0 by default.
        weights: Weight of each log-likelihood in the loss; 1 by default. Never part of a likelihood estimate.
        modality_dropout: Probability with which each modality of a row is hidden from the posterior in training, given
            that one stays. All that the row has is scored: the loss is a bound still, with another proposal.
        config: The config the model was built from; None where it was put together by hand.

    Raises:
        DataError: Where a network does not fit the schema; every network is called with 0 rows to see.
    """

    def __init__(
        self,
        schema: Schema,
        *,
        latent_dim: int,
        encoders: Mapping[str, nn.Module],
        decoders: Mapping[str, LikelihoodDecoder],
        posterior: JointPosterior | None = None,
        prior: Prior | None = None,
        loss: nn.Module | None = None,
        inputs: Mapping[str, InputTransform] | None = None,
        private_dims: Mapping[str, int] | None = None,
        weights: Mapping[str, float] | None = None,
        modality_dropout: float = 0.0,
        config: ModelConfig | None = None,
    ) -> None:
        for what, given in {"encoders": encoders, "decoders": decoders, "inputs": inputs, "private_dims": private_dims,
                            "weights": weights}.items():  # fmt: skip
            _check_names(what, given, schema, complete=what in ("encoders", "decoders"))
        if inputs is None:
            inputs = {m.name: InputTransform(m.shape, "none", m.categories) for m in schema}
        super().__init__(schema, inputs=inputs, encoders=encoders, decoders=decoders, config=config)
        self.latent_dim = latent_dim
        self.private_dims = {m: d for m in schema.names if (d := (private_dims or {}).get(m, 0))}
        self.modality_dropout = modality_dropout
        self.weights = {m: float((weights or {}).get(m, 1.0)) for m in schema.names}
        self.joint = posterior or ProductOfExperts(schema.names, prior_expert="every")
        self.latent_prior = prior or StandardPrior(latent_dim, self.private_dims)
        self.loss = loss or ELBO()
        if type(self.latent_prior().components) is not self.joint.family:
            raise DataError(
                f"The prior is {type(self.latent_prior().components).__name__}, the posterior's experts are "
                f"{self.joint.family.__name__}; give both the same family."
            )
        self._try_networks()

    def forward(self, batch: Batch, *, epoch: float = math.inf, stage: str | None = None) -> LossOutput:
        """The loss of a batch."""
        given = None
        if self.training and self.modality_dropout:
            given = batch.keep(kept_at_random(batch.observed, self.modality_dropout))
        return check_loss(self.loss, self.loss(Pass(self, batch, epoch, given=given)))

    def encode_modalities(self, batch: Batch) -> Encodings:
        """Encodes each modality once."""
        return Encodings(batch, self.encode_each(batch))

    def posterior(self, encodings: Encodings) -> JointDistribution:
        """The joint posterior of the shared latent, and that of each private one."""
        prior, batch = self.latent_prior(), encodings.batch
        shared = self.joint(encodings.experts, batch, prior.components[0])
        private = {m: self._private(m, encodings) for m in self.private_dims}
        return JointDistribution(shared, private, batch)

    def prior(self, encodings: Encodings | None = None) -> JointDistribution:
        """The prior of the shared and the private latents."""
        private = {m: self.latent_prior.private(m) for m in self.private_dims}
        return JointDistribution(self.latent_prior(), private, None if encodings is None else encodings.batch)

    def decode(self, latents: Mapping[str, Tensor], modalities: Iterable[str]) -> dict[str, Observation]:
        """Decodes each modality from the shared latent and its private one."""
        return {m: self.decoders[m](self._code(latents, m), latents.get("context")) for m in modalities}

    def _code(self, latents: Mapping[str, Tensor], name: str) -> Tensor:
        shared = latents["shared"]
        return torch.cat([shared, latents[f"private/{name}"]], -1) if name in self.private_dims else shared

    def _private(self, name: str, encodings: Encodings) -> Diagonal:
        prior, batch = self.latent_prior.private(name), encodings.batch
        everywhere = prior.expand(len(batch))
        if name not in encodings.experts:
            return everywhere
        encoded = encodings.experts[name]
        density = self.joint.to_family(encoded.private_loc, encoded.private_log_scale)
        return density if len(density.loc) == len(batch) else everywhere.replaced(batch.rows(name), density)

    def _try_networks(self) -> None:
        """Calls every network with 0 rows, as a partial batch may, and compares shapes with the schema."""
        told, like = self.schema.context_dim, next(self.parameters(), torch.zeros(()))
        for m in self.schema:
            D_m, decoder = self.private_dims.get(m.name, 0), self.decoders[m.name]
            assert isinstance(decoder, LikelihoodDecoder)
            try_encoder(f"The encoder of {m.name!r}", self.encoders[m.name], m, self.latent_dim, D_m, told, like)
            who, width = f"The decoder network of {m.name!r}", self.latent_dim + D_m
            try_decoder(who, decoder.network, m, width, decoder.likelihood.n_outputs, told, like)
        for who, part in {"posterior": self.joint, "prior": self.latent_prior, "loss": self.loss}.items():
            refuse_batch_norm(f"The {who}", part)


def _check_names(what: str, given: Mapping[str, object] | None, schema: Schema, *, complete: bool) -> None:
    unknown = sorted(set(given or {}) - set(schema.names))
    lacking = [m for m in schema.names if complete and m not in (given or {})]
    if unknown or lacking:
        fault = f"has {unknown[0]!r}, which is no modality" if unknown else f"lacks the modality {lacking[0]!r}"
        raise DataError(f"{what} {fault}; the schema has {', '.join(schema.names)}.")
