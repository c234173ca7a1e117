"""mcVAE for mvcore, the multi-channel VAE, and its sparse variant. Importing this module imports no torch."""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen

from mvcore.losses import ELBOConfig
from mvcore.models import ComposedConfig
from mvcore.plugins import ComponentSpec, LossConfig, ModelFacts, PosteriorConfig
from mvcore.posteriors import PriorExpert, ProductConfig, Subsets
from mvcore.validators import not_negative, positive


@frozen(kw_only=True)
class DropoutPosteriorConfig(PosteriorConfig):
    """The mixture of the single experts N(μ, α μ²), with a rate α for each latent dimension, shared by modalities."""

    @property
    def family(self) -> Literal["normal"]:
        """Family of the experts."""
        return "normal"

    @property
    def subsets(self) -> Subsets:
        """Each single modality is a component."""
        return "each"

    @property
    def prior_expert(self) -> PriorExpert:
        """The prior is no expert."""
        return "none"


@frozen(kw_only=True)
class DropoutLossConfig(LossConfig):
    """The evidence lower bound with the divergence of variational dropout from a log-uniform prior."""

    beta: float = field(default=1.0, validator=not_negative)
    """Weight β of all divergences."""
    warmup: float = field(default=0.0, validator=not_negative)
    """Epochs over which β grows linearly from 0."""
    samples: int = field(default=1, validator=positive)
    """Draws for each row, or, stratified, for each modality."""
    stratified: bool = True
    """Whether every modality's latent decodes, instead of that of one drawn at random for each row."""

    def refuses(self, model: ComposedConfig) -> str | None:
        """Refuses every posterior but ``variational_dropout``."""
        if isinstance(model.posterior, DropoutPosteriorConfig):
            return None
        return (
            "the loss variational_dropout is that of the posterior of this name; set posterior='variational_dropout', "
            f"got {type(model.posterior).__name__}"
        )


@frozen(kw_only=True)
class MCVAEConfig(ComposedConfig):
    """A latent for each modality, each of which decodes all of them."""

    posterior: PosteriorConfig = field(factory=lambda: ProductConfig(subsets="each", prior_expert="none"))
    """The single experts; ``variational_dropout`` in the sparse variant."""
    loss: LossConfig = field(factory=lambda: ELBOConfig(stratified=True))
    """The ELBO, averaged over the modalities; ``variational_dropout`` in the sparse variant."""


spec = ComponentSpec(
    api=1,
    config=MCVAEConfig,
    build="mvcore.models:build_multimodal",
    summary="Multi-channel VAE (Antelmi et al., 2019)",
    paper="https://proceedings.mlr.press/v97/antelmi19a.html",
    partial_data="The latent of each modality that a row has decodes all that it has; absent modalities cost nothing.",
    facts=ModelFacts(
        kind="mixture of experts",
        private="optional",
        likelihood="importance sampling, stratified over the mixture",
        subsets="closed form: the mixture of what is given",
        cost="M divergences; M decodings of each modality",
    ),
)

dropout_posterior = ComponentSpec(
    api=1,
    config=DropoutPosteriorConfig,
    build="mvcore_mcvae.dropout:build_posterior",
    summary="Mixture of experts whose scales are a learned multiple of their means",
    paper="https://proceedings.mlr.press/v97/antelmi19a.html",
)

dropout_loss = ComponentSpec(
    api=1,
    config=DropoutLossConfig,
    build="mvcore_mcvae.dropout:build_loss",
    summary="Evidence lower bound of variational dropout",
    paper="https://arxiv.org/abs/1701.05369",
)
