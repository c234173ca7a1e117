"""The base of models with an encoder of all modalities together, which complete rows alone can train."""

from __future__ import annotations

import warnings
from abc import ABC
from collections.abc import Mapping
from typing import final

from torch import Tensor

from mvcore.build import Parts
from mvcore.data.batch import Batch
from mvcore.data.schema import Schema
from mvcore.data.views import widened
from mvcore.distributions.diagonal import DiagonalNormal
from mvcore.distributions.joint import JointDistribution
from mvcore.errors import DataError
from mvcore.inference.encodings import Encodings
from mvcore.likelihoods.observations import Observation
from mvcore.models.base import Model
from mvcore.nn.joint import JointEncoder
from mvcore.plugins.spec import ModelConfig
from mvcore.priors.standard import StandardPrior

#: Share of complete rows below which ``check_training`` warns.
FEW = 0.1


class JointModel(Model, ABC):
    """A model that encodes complete rows by a joint encoder q(z | X), with the standard normal as its prior.

    Args:
        schema: The modalities.
        parts: Their input transforms, encoders, decoders and weights.
        joint_encoder: The encoder of complete rows.
        latent_dim: Dimensions D of the latent.
        partial: The name of the rule for rows that lack a modality; ``refuse``: there is none.
        rule: What ``partial`` is set to so that such rows train; for errors.
        config: The config the model was built from.
    """

    def __init__(
        self,
        schema: Schema,
        *,
        parts: Parts,
        joint_encoder: JointEncoder,
        latent_dim: int,
        partial: str,
        rule: str,
        config: ModelConfig | None = None,
    ) -> None:
        super().__init__(schema, inputs=parts.inputs, encoders=parts.encoders, decoders=parts.decoders, config=config)
        self.joint_encoder, self.partial, self.rule = joint_encoder, partial, rule
        self.latent_prior, self.modality_weights = StandardPrior(latent_dim), dict(parts.modality_weights)

    def prior(self, encodings: Encodings | None = None) -> JointDistribution:
        """The standard normal."""
        return JointDistribution(self.latent_prior(), {}, None if encodings is None else encodings.batch)

    def decode(self, latents: Mapping[str, Tensor], name: str, context: Tensor | None = None) -> Observation:
        """Decodes a modality from the shared latent."""
        observation: Observation = self.decoders[name](latents["shared"], context)
        return observation

    @final
    def check_training(self, observed: Tensor) -> None:
        """Asks whether rows with the modalities ``observed (n, M)`` can train the model.

        Warns where fewer than a tenth are complete: nothing else trains the joint encoder.

        Raises:
            DataError: If no row is complete, or one is partial and ``partial`` is ``refuse``.
        """
        self.check_rows(observed)
        complete, who = int(observed.all(1).sum()), type(self).__name__
        if not complete:
            raise DataError(
                f"None of {len(observed)} rows has all of {', '.join(self.schema.names)}, and only such rows train "
                f"{who}'s joint encoder. Leave a modality out, or use a model without a joint encoder, such as 'mopoe'."
            )
        if complete < FEW * len(observed):
            warnings.warn(
                f"Only {complete} of {len(observed)} rows are complete; nothing else trains {who}'s joint encoder.",
                stacklevel=2,
            )

    @final
    def check_rows(self, observed: Tensor) -> None:
        """Raises a DataError for rows that lack a modality, if ``partial`` is ``refuse``."""
        if self.partial == "refuse" and (lacking := int((~observed.all(1)).sum())):
            raise DataError(
                f"{lacking} of {len(observed)} rows lack a modality, and this {type(self).__name__} was built with "
                f"partial='refuse'. Leave these rows out, or build it with partial={self.rule!r}."
            )

    @final
    def widened(self, batch: Batch) -> Batch:
        """A batch, or a view that lacks a modality, as rows of all modalities; what lacks one is not complete."""
        return widened(batch, self.schema, next(self.parameters()))

    @final
    def encode_jointly(self, batch: Batch) -> DiagonalNormal:
        """The joint posterior ``(n, D)`` of the complete rows, of which there may be none."""
        whole = batch if batch.complete else batch.select(batch.observed.all(1))
        x = {m: self.inputs[m](whole.x[m], whole.cells.get(m)) for m in whole.names}
        density: DiagonalNormal = self.joint_encoder(x, whole.cells, self.context_of(whole))
        return density
