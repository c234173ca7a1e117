"""The composed model: any encoders, decoders, joint posterior, prior and loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor

from mvcore.build import build_parts
from mvcore.data.batch import Batch
from mvcore.data.missing import kept_at_random, kept_on_device
from mvcore.data.padded import PaddedBatch
from mvcore.data.schema import Schema
from mvcore.data.transforms import InputTransform
from mvcore.distributions.diagonal import Diagonal
from mvcore.distributions.joint import JointDistribution
from mvcore.errors import DataError
from mvcore.inference.encodings import Encodings
from mvcore.likelihoods.base import LikelihoodDecoder
from mvcore.likelihoods.observations import Observation
from mvcore.losses.base import Loss, LossOutput, check_loss
from mvcore.losses.elbo import ELBO
from mvcore.losses.passes import Pass
from mvcore.models.base import Model
from mvcore.models.specs import ComposedConfig
from mvcore.nn.protocols import Encoder
from mvcore.nn.trial import as_module, refuse_batch_norm, try_decoder, try_encoder
from mvcore.plugins.registry import Registry
from mvcore.plugins.spec import ModelConfig
from mvcore.posteriors.base import JointPosterior
from mvcore.posteriors.product import ProductOfExperts
from mvcore.priors.base import Prior
from mvcore.priors.standard import StandardPrior


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
        modality_weights: Weight of each log-likelihood in the loss; 1 by default. Never part of a likelihood estimate.
        modality_dropout: Probability with which each modality of a row is hidden from the posterior in training, given
            that one stays. All that the row has is scored: the loss is a bound still, with another proposal.
        config: The config the model was built from; None where it was put together by hand.

    Raises:
        DataError: Where a network does not fit the schema; every network is called with 0 rows to see.
    """

    takes_padded = True

    def __init__(
        self,
        schema: Schema,
        *,
        latent_dim: int,
        encoders: Mapping[str, Encoder],
        decoders: Mapping[str, LikelihoodDecoder],
        posterior: JointPosterior | None = None,
        prior: Prior | None = None,
        loss: Loss | None = None,
        inputs: Mapping[str, InputTransform] | None = None,
        private_dims: Mapping[str, int] | None = None,
        modality_weights: Mapping[str, float] | None = None,
        modality_dropout: float = 0.0,
        config: ModelConfig | None = None,
    ) -> None:
        for what, given in {"encoders": encoders, "decoders": decoders, "inputs": inputs, "private_dims": private_dims,
                            "modality_weights": modality_weights}.items():  # fmt: skip
            _check_names(what, given, schema, complete=what in ("encoders", "decoders"))
        if inputs is None:
            inputs = {m.name: InputTransform(m.shape, "none", m.categories) for m in schema}
        super().__init__(schema, inputs=inputs, encoders=encoders, decoders=decoders, config=config)
        self.latent_dim = latent_dim
        self.private_dims = {m: d for m in schema.names if (d := (private_dims or {}).get(m, 0))}
        self.modality_dropout = modality_dropout
        self.modality_weights = {m: float((modality_weights or {}).get(m, 1.0)) for m in schema.names}
        self.joint_posterior = posterior or ProductOfExperts(schema.names, prior_expert="every")
        self.latent_prior = prior or StandardPrior(latent_dim, self.private_dims)
        self.loss = as_module("The loss", loss or ELBO(), ("p",))
        if type(self.latent_prior().components) is not self.joint_posterior.family:
            raise DataError(
                f"The prior is {type(self.latent_prior().components).__name__}, the posterior's experts are "
                f"{self.joint_posterior.family.__name__}; give both the same family."
            )
        self._try_networks()

    def forward(self, batch: Batch, *, epoch: float = math.inf, stage: str | None = None) -> LossOutput:
        """The loss of a batch."""
        given = None
        if self.training and self.modality_dropout:
            kept = kept_on_device if isinstance(batch, PaddedBatch) else kept_at_random
            given = batch.keep(kept(batch.observed, self.modality_dropout))
        return check_loss(self.loss, self.loss(Pass(self, batch, epoch, given=given)))

    def check_training(self, observed: Tensor) -> None:
        """Asks the loss, if it has a word on the modalities that training rows must have."""
        check = getattr(self.loss, "check_training", None)  # which most losses do without
        if check is not None:
            check(observed, self.joint_posterior)

    def encode_modalities(self, batch: Batch) -> Encodings:
        """Encodes each modality once."""
        return Encodings(batch, self.encode_each(batch))

    def posterior(self, encodings: Encodings) -> JointDistribution:
        """The joint posterior of the shared latent, and that of each private one."""
        prior, batch = self.latent_prior(), encodings.batch
        shared = self.joint_posterior(encodings.experts, batch, prior)
        private = {m: self._private(m, encodings) for m in self.private_dims}
        return JointDistribution(shared, private, batch)

    def prior(self, encodings: Encodings | None = None) -> JointDistribution:
        """The prior of the shared and the private latents."""
        private = {m: self.latent_prior.private(m) for m in self.private_dims}
        return JointDistribution(self.latent_prior(), private, None if encodings is None else encodings.batch)

    def decode(self, latents: Mapping[str, Tensor], name: str, context: Tensor | None = None) -> Observation:
        """Decodes a modality from the shared latent and its private one."""
        z = latents["shared"]
        if name in self.private_dims:
            z = torch.cat([z, latents[f"private/{name}"]], -1)
        observation: Observation = self.decoders[name](z, context)
        return observation

    def _private(self, name: str, encodings: Encodings) -> Diagonal:
        prior, batch = self.latent_prior.private(name), encodings.batch
        everywhere = prior.expand(len(batch))
        if name not in encodings.experts:
            return everywhere
        encoded = encodings.experts[name]
        density = self.joint_posterior.to_family(encoded.private_loc, encoded.private_log_scale)
        if len(density.loc) == len(batch) and batch.mask(name) is None:
            return density
        loc = batch.placed(name, density.loc, everywhere.loc)
        return type(density)(loc, batch.placed(name, density.log_scale, everywhere.log_scale))

    def _try_networks(self) -> None:
        """Calls every network with 0 rows, as a partial batch may, and compares shapes with the schema."""
        told, like = self.schema.context_dim, next(self.parameters(), torch.zeros(()))
        for m in self.schema:
            D_m, decoder = self.private_dims.get(m.name, 0), self.decoders[m.name]
            assert isinstance(decoder, LikelihoodDecoder)
            try_encoder(f"The encoder of {m.name!r}", self.encoders[m.name], m, self.latent_dim, D_m, told, like)
            who, width = f"The decoder network of {m.name!r}", self.latent_dim + D_m
            try_decoder(who, decoder.network, m, width, decoder.likelihood.n_outputs, told, like)
        for who, part in {"posterior": self.joint_posterior, "prior": self.latent_prior, "loss": self.loss}.items():
            refuse_batch_norm(f"The {who}", part)


def _check_names(what: str, given: Mapping[str, object] | None, schema: Schema, *, complete: bool) -> None:
    unknown = sorted(set(given or {}) - set(schema.names))
    lacking = [m for m in schema.names if complete and m not in (given or {})]
    if unknown or lacking:
        fault = f"has {unknown[0]!r}, which is no modality" if unknown else f"lacks the modality {lacking[0]!r}"
        raise DataError(f"{what} {fault}; the schema has {', '.join(schema.names)}.")


def build_multimodal(config: ComposedConfig, schema: Schema) -> MultimodalVAE:
    """The composed model; aggregated plugins build with it too."""
    private_dims, registry = config.private_dims(schema), Registry.installed()
    parts = build_parts(config, schema, private_dims=private_dims)
    sizes: dict[str, Any] = {
        "modalities": schema.modalities, "latent_dim": config.latent_dim, "private_dims": private_dims
    }  # fmt: skip
    return MultimodalVAE(
        schema,
        latent_dim=config.latent_dim,
        encoders=parts.encoders,
        decoders=parts.decoders,
        inputs=parts.inputs,
        modality_weights=parts.modality_weights,
        private_dims=private_dims,
        posterior=registry.build(config.posterior, **sizes),
        prior=registry.build(config.prior, **sizes),
        loss=registry.build(config.loss, **sizes),
        modality_dropout=config.modality_dropout,
        config=config,
    )
