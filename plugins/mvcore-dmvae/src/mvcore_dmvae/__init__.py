"""DMVAE for mvcore: shared and private latents. Importing this module imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from attrs import Attribute, field, frozen, validators

from mvcore.models import ComposedConfig
from mvcore.plugins import ComponentSpec, LossConfig, ModelFacts, PosteriorConfig
from mvcore.posteriors import ProductConfig
from mvcore.validators import not_negative

SharedKL = Literal["paper", "elbo"]


@frozen(kw_only=True)
class DMVAELossConfig(LossConfig):
    """A bound with the product of all that a row has, and one with each of its experts alone."""

    shared_kl: SharedKL = "paper"
    """How often each term counts the shared latent's divergence: ``paper``, once for each modality that the row has, as
    in the official code; ``elbo``, once, so that each term is a bound of log p(x_O)."""
    beta: float = field(default=1.0, validator=validators.ge(0))
    """Weight β of the shared latent's divergences."""
    beta_private: float | Mapping[str, float] = field(default=1.0)
    """Weights β_m of the private latents' divergences: one number for all modalities, or one for each named, 1 for
    others."""
    warmup: float = field(default=0.0, validator=validators.ge(0))
    """Epochs over which the weights of all divergences grow linearly from 0."""
    samples: int = field(default=1, validator=validators.ge(1))
    """Draws of each posterior; those of the private latents serve all terms."""

    @beta_private.validator
    def _check_private(self, attribute: Attribute[Any], value: Any) -> None:
        for weight in value.values() if isinstance(value, Mapping) else [value]:
            not_negative(self, attribute, weight)

    def refuses(self, model: ComposedConfig) -> str | None:
        """Refuses a mixture and hidden modalities: its terms are those of one product and of each of its experts."""
        subsets = getattr(model.posterior, "subsets", "observed")
        if subsets != "observed":
            return f"the loss dmvae needs one product for each row; set posterior.subsets='observed', got {subsets!r}"
        if model.modality_dropout:
            return "the loss dmvae predicts all modalities from each single one; set modality_dropout=0"
        return None


@frozen(kw_only=True)
class DMVAEConfig(ComposedConfig):
    """A product of experts over a shared latent, with a private latent for each modality."""

    latent_dim: int = field(default=10, validator=validators.gt(0))
    """Dimensions D of the shared latent; 10 in the official code."""
    private_dim: int | Mapping[str, int] = field(default=1)
    """Dimensions of the private latents, one number or one for each named modality; in the official code 1 for MNIST, 4
    for SVHN. Large ones leave little to the shared latent, and what is absent is predicted from that alone."""
    posterior: PosteriorConfig = field(factory=lambda: ProductConfig(prior_expert="every"))
    """The product of the experts, with the prior as one more."""
    loss: LossConfig = field(factory=DMVAELossConfig)
    """The sum of bounds."""


spec = ComponentSpec(
    api=1,
    config=DMVAEConfig,
    build="mvcore.models:build_multimodal",
    summary="Shared and private latents, joint and unimodal bounds (Lee & Pavlovic, 2021)",
    paper="https://arxiv.org/abs/2012.13024",
    partial_data="Each row trains the bounds of the product of what it has and of each of its experts; absent "
    "modalities cost nothing.",
    facts=ModelFacts(
        kind="product of experts",
        private="yes",
        likelihood="importance sampling from the product",
        subsets="closed form: the product of what is given",
        cost="1 + M densities; 1 + M decodings of each modality",
    ),
)

loss = ComponentSpec(
    api=1,
    config=DMVAELossConfig,
    build="mvcore_dmvae.objective:build",
    summary="Bounds of a row's product of experts and of each expert, with private latents",
    paper="https://arxiv.org/abs/2012.13024",
)
