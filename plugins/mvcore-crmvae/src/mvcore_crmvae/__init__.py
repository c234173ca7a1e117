"""CRMVAE for mvcore: a coordinated product of experts. Importing this module imports no torch."""

from __future__ import annotations

from attrs import field, frozen, validators

from mvcore.models import ComposedConfig
from mvcore.plugins import ComponentSpec, LossConfig, ModelFacts, PosteriorConfig
from mvcore.posteriors import ProductConfig


@frozen(kw_only=True)
class CRMVAELossConfig(LossConfig):
    """Reconstructions from the product and from each expert, and the product's divergences from prior and experts."""

    beta: float = field(default=1.0, validator=validators.ge(0))
    """Weight β of all divergences; the public code's default is 2.5, with halved reconstructions: the formula's 5."""
    halved: bool = False
    """Whether reconstructions count half, as in the public code, so that a row of one modality has half of its β-ELBO;
    without, such a row has the ELBO with ½ β. Halved at β is half of the loss at 2 β."""
    warmup: float = field(default=0.0, validator=validators.ge(0))
    """Epochs over which β grows linearly from 0."""
    samples: int = field(default=1, validator=validators.ge(1))
    """Draws of the product, and of each expert."""

    def refuses(self, model: ComposedConfig) -> str | None:
        """Refuses a mixture, private latents and hidden modalities: the loss compares one product with its experts."""
        subsets = getattr(model.posterior, "subsets", "observed")
        if subsets != "observed":
            return f"the loss crmvae needs one product for each row; set posterior.subsets='observed', got {subsets!r}"
        if model.has_private:
            return f"the loss crmvae takes no private latents; set private_dim=0, got {model.private_dim!r}"
        if model.modality_dropout:
            return "the loss crmvae compares the posterior with the expert of each modality; set modality_dropout=0"
        return None


@frozen(kw_only=True)
class CRMVAEConfig(ComposedConfig):
    """A product of experts without a prior expert, each of which reconstructs its own modality too."""

    posterior: PosteriorConfig = field(factory=lambda: ProductConfig(prior_expert="none"))
    """The product of the experts that a row has."""
    loss: LossConfig = field(factory=CRMVAELossConfig)
    """The objective."""


spec = ComponentSpec(
    api=1,
    config=CRMVAEConfig,
    build="mvcore.models:build_multimodal",
    summary="Coordinated product of experts with unimodal reconstructions (Suzuki & Matsuo)",
    paper="https://openreview.net/forum?id=Rn8u4MYgeNJ",
    partial_data="Each row trains on the product of what it has and on each of its experts, its weights those of its "
    "number of modalities.",
    facts=ModelFacts(
        kind="product of experts",
        private="no",
        likelihood="importance sampling from the product",
        subsets="closed form: the product of what is given",
        cost="1 + M densities and M divergences; each modality decoded twice",
    ),
)

loss = ComponentSpec(
    api=1,
    config=CRMVAELossConfig,
    build="mvcore_crmvae.objective:build",
    summary="Objective of the coordinated product of experts",
    paper="https://openreview.net/forum?id=Rn8u4MYgeNJ",
)
