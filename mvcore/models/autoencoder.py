"""The base of autoencoders: their encoders give points, so they have no density."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor

from mvcore.build import Parts
from mvcore.data.batch import Batch
from mvcore.data.schema import Schema
from mvcore.data.views import widened
from mvcore.distributions.latents import Latents
from mvcore.distributions.points import NoPrior, Points
from mvcore.distributions.protocols import LatentDistribution
from mvcore.inference.encodings import Encodings
from mvcore.inference.estimators import log_likelihoods
from mvcore.likelihoods.observations import Observation
from mvcore.models.base import Model
from mvcore.plugins.spec import ModelConfig


class Autoencoder(Model, ABC):
    r"""A model whose encoder of each modality gives a code, a point; an author writes ``forward``.

    What a row has is encoded by the mean of its codes; a row that a view leaves with nothing has the code 0. Codes have
    no density: likelihoods raise a NotApplicableError. There is no prior, unless a subclass has one: ``generate``
    draws from a fitted sampler. The likelihoods of the modalities say how their reconstruction is measured.

    Args:
        schema: The modalities.
        parts: Their input transforms, encoders, decoders and weights.
        latent_dim: Dimensions D of the codes.
        config: The config the model was built from.
    """

    def __init__(self, schema: Schema, *, parts: Parts, latent_dim: int, config: ModelConfig | None = None) -> None:
        super().__init__(schema, inputs=parts.inputs, encoders=parts.encoders, decoders=parts.decoders, config=config)
        self.latent_dim, self.modality_weights = latent_dim, dict(parts.modality_weights)

    @property
    def latent_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of a code."""
        return {"shared": (self.latent_dim,)}

    @final
    def encode_modalities(self, batch: Batch) -> Encodings:
        """The code of each modality ``(n_m, D)``, of the rows that have it."""
        return Encodings(batch, {m: encoded.code for m, encoded in self.encode_each(batch).items()})

    @final
    def posterior(self, encodings: Encodings) -> Points:
        """The mean of the codes of what each row has."""
        batch, codes = encodings.batch, encodings.experts
        if not batch.names:
            return Points({"shared": next(self.parameters()).new_zeros(len(batch), self.latent_dim)})
        total = batch.dense([codes[m] for m in batch.names], 0.0).sum(0)
        counts = batch.observed.sum(1, keepdim=True).clamp(min=1).to(total, non_blocking=True)
        return Points({"shared": total / counts})

    def prior(self, encodings: Encodings | None = None) -> LatentDistribution:
        """There is none."""
        return NoPrior()

    def decode(self, latents: Mapping[str, Tensor], name: str, context: Tensor | None = None) -> Observation:
        """Decodes a modality from a code."""
        observation: Observation = self.decoders[name](latents["shared"], context)
        return observation

    @final
    def widened(self, batch: Batch) -> Batch:
        """A batch, or a view that lacks a modality, as rows of all modalities."""
        return widened(batch, self.schema, next(self.parameters()))

    @final
    def reconstruction_from_each(self, batch: Batch, codes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """−r_m log p(x_m | c) ``(B,)`` of each modality of a row, the mean over the codes c of all that the row has."""
        rows = torch.cat([batch.column(m).nonzero().squeeze(1) for m in batch.names])
        z = torch.cat([codes[m] for m in batch.names])
        share = -batch.observed.sum(1)[rows].to(z).log()
        latents = Latents({"shared": z[None]}, len(batch), rows=rows, log_weight=share)
        scored = log_likelihoods(self, batch, latents)
        return {f"reconstruction/{m}": -self.modality_weights[m] * latents.mean(v) for m, v in scored.items()}

    @final
    def reconstruction_from_own(self, batch: Batch, codes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """−r_m log p(x_m | c_m) ``(B,)`` of each modality, from its own code; 0 in rows without it."""
        return {f"reconstruction/{m}": self._from_own(batch, m, codes[m]) for m in batch.names}

    def _from_own(self, batch: Batch, name: str, code: Tensor) -> Tensor:
        rows = batch.column(name).nonzero().squeeze(1)
        latents = Latents({"shared": code[None]}, len(batch), rows=rows)
        scored = log_likelihoods(self, batch.only([name]), latents)[name]
        return -self.modality_weights[name] * latents.sum(scored)
