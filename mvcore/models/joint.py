"""The bases of models with an encoder of all modalities together, which complete rows alone can train."""

from __future__ import annotations

import math
import warnings
from abc import ABC
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import final

import torch
from torch import Tensor, nn

from mvcore.build import Parts
from mvcore.data.batch import Batch
from mvcore.data.padded import PaddedBatch
from mvcore.data.schema import Schema
from mvcore.data.views import widened
from mvcore.distributions.diagonal import DiagonalNormal, full
from mvcore.distributions.joint import JointDistribution
from mvcore.distributions.latents import Latents
from mvcore.distributions.mixture import Mixture
from mvcore.errors import DataError
from mvcore.inference.encodings import Encodings
from mvcore.inference.estimators import log_likelihoods
from mvcore.likelihoods.observations import Observation
from mvcore.models.base import Model
from mvcore.models.specs import SurrogateConfig
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
        return self._jointly(whole, self.transformed(whole))

    def _jointly(self, batch: Batch, inputs: Mapping[str, Tensor]) -> DiagonalNormal:
        density: DiagonalNormal = self.joint_encoder(inputs, batch.cells, self.context_of(batch))
        return density


class SurrogateModel(JointModel, ABC):
    r"""A joint model with a normal surrogate q(z | x_m) for each modality, from which every other subset is inferred.

    A surrogate stands for p(z | x_m), the prior included. With λ and μ the surrogates' precisions and means, the subset
    O has, by ``exact``, the precision Σλ − (\|O\| − 1), at least min(1, min λ), and the mean Σλμ over it: surrogates
    that are exact posteriors then give the exact posterior of every O. ``product`` is the plain product.

    Args:
        schema: The modalities.
        parts: Their input transforms, encoders, decoders and weights.
        joint_encoder: The encoder of complete rows.
        config: The numbers.
    """

    config: SurrogateConfig

    def __init__(self, schema: Schema, *, parts: Parts, joint_encoder: JointEncoder, config: SurrogateConfig) -> None:
        super().__init__(
            schema, parts=parts, joint_encoder=joint_encoder, latent_dim=config.latent_dim, partial=config.partial,
            rule="elbo", config=config,
        )  # fmt: skip

    @final
    def encode_modalities(self, batch: Batch) -> Encodings:
        """Encodes each modality once, and the complete rows jointly."""
        inputs, together = self.transformed(batch), set(batch.names) == set(self.schema.names)
        surrogates = self.surrogates(batch, inputs)
        if together and (batch.complete or isinstance(batch, PaddedBatch)):
            return Encodings(batch, surrogates, self._jointly(batch, inputs))
        return Encodings(batch, surrogates, self.encode_jointly(batch) if together else None)

    @final
    def surrogates(self, batch: Batch, inputs: Mapping[str, Tensor] | None = None) -> dict[str, DiagonalNormal]:
        """q(z | x_m) of the rows that have each modality, ``(n_m, D)``."""
        encoded = self.encode_each(batch, inputs)
        return {m: DiagonalNormal(full(e.loc), full(e.log_scale)) for m, e in encoded.items()}

    @final
    def posterior(self, encodings: Encodings) -> JointDistribution:
        """The joint posterior of complete rows, the product of the surrogates of others; the prior without any."""
        q, B = self.infer(encodings), len(encodings.batch)
        shared = Mixture(q[None], q.loc.new_ones(1, B), torch.ones(1, B, dtype=torch.bool))
        return JointDistribution(shared, {}, encodings.batch)

    @final
    def infer(self, encodings: Encodings) -> DiagonalNormal:
        """The posterior of each row ``(B, D)``."""
        batch, joint = encodings.batch, encodings.joint
        if joint is not None and batch.complete:
            found: DiagonalNormal = joint
            return found
        fused = self._product(encodings)
        if joint is None:
            return fused
        if isinstance(batch, PaddedBatch):
            whole = batch.observed.all(1, keepdim=True)
            return DiagonalNormal(joint.loc.where(whole, fused.loc), joint.log_scale.where(whole, fused.log_scale))
        return fused.replaced(batch.observed.all(1).nonzero().squeeze(1).to(batch.device), joint)

    @final
    def from_surrogates(self, encodings: Encodings) -> dict[str, Tensor]:
        """KL(q(z|X) ‖ q_m) of complete rows ``(B,)``, for each modality; 0 in other rows."""
        batch, joint, experts = encodings.batch, encodings.joint, encodings.experts
        whole = batch.observed.all(1)
        if batch.complete or isinstance(batch, PaddedBatch):
            each = [experts[m] for m in batch.names]
            stacked = DiagonalNormal(torch.stack([q.loc for q in each]), torch.stack([q.log_scale for q in each]))
            kl: Tensor = joint.kl(stacked)
            return dict(zip(batch.names, (kl if batch.complete else kl.where(whole, 0)).unbind(), strict=True))
        rows = whole.nonzero().squeeze(1).to(batch.device)
        own = {m: whole[batch.column(m)].nonzero().squeeze(1).to(batch.device) for m in batch.names}
        parts = {m: joint.kl(experts[m].take(own[m])) for m in batch.names}
        return {m: kl.new_zeros(len(batch)).index_copy(0, rows, kl) for m, kl in parts.items()}

    @final
    def bound_terms(self, batch: Batch, q: DiagonalNormal, *, kl: float = 1.0) -> dict[str, Tensor]:
        """The negative bound of what each row has, by term ``(B,)``: −r_m E_q log p(x_m|z), and KL(q‖p) times ``kl``.

        Args:
            batch: The rows.
            q: What each of them is inferred by ``(B, D)``.
            kl: Weight of the divergence.
        """
        latents = Latents({"shared": q.rsample(self.config.samples)}, len(batch))
        scored = log_likelihoods(self, batch, latents)
        rows = {f"reconstruction/{m}": -self.modality_weights[m] * latents.mean(v) for m, v in scored.items()}
        return {**rows, "kl": kl * q.kl(self.latent_prior().components[0])}

    def _product(self, encodings: Encodings) -> DiagonalNormal:
        """The product of the surrogates that each row has; the prior, if it has none."""
        batch, experts = encodings.batch, encodings.experts
        if not batch.names:
            return DiagonalNormal.unit(len(batch), self.config.latent_dim, like=self.latent_prior.zeros)
        with torch.autocast(batch.device.type, enabled=False):
            precisions = torch.exp(-2 * batch.dense([experts[m].log_scale for m in batch.names], math.inf))
            means = batch.dense([experts[m].loc for m in batch.names], 0.0)
            precision, weighted = precisions.sum(0), (precisions * means).sum(0)
            if self.config.subsets == "exact":
                present = precisions.where(precisions > 0, 1)  # what is absent must not lower the least precision
                counts = batch.observed.sum(1, keepdim=True).to(precision)
                precision = torch.maximum(precision - (counts - 1), present.amin(0).clamp(max=1))
            return DiagonalNormal.natural(precision, weighted)


@contextmanager
def without_gradient(*modules: nn.Module) -> Iterator[None]:
    """What runs inside sends no gradient to these modules' parameters, but through them."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
