"""MVAE for mvcore: the product of experts. Importing this module imports no torch."""

from __future__ import annotations

from attrs import field, frozen, validators

from mvcore.models import ComposedConfig
from mvcore.plugins import ComponentSpec, LossConfig, ModelFacts, PosteriorConfig
from mvcore.posteriors import ProductConfig


@frozen(kw_only=True)
class MVAELossConfig(LossConfig):
    """The sum of the bounds of what a row has, of each single modality, and of random subsets."""

    unimodal: bool = True
    """Whether each modality of a row adds a bound of its own."""
    subsets: int = field(default=0, validator=validators.ge(0))
    """Random subsets k, drawn once for a batch in training, of 2 to M − 1 modalities each; the paper has them
    where there are many modalities. A model of one or two has none to draw."""
    beta: float = field(default=1.0, validator=validators.ge(0))
    """Weight β of the divergences."""
    warmup: float = field(default=0.0, validator=validators.ge(0))
    """Epochs over which β grows linearly from 0."""
    samples: int = field(default=1, validator=validators.ge(1))
    """Draws of each posterior."""

    def refuses(self, model: ComposedConfig) -> str | None:
        """Refuses a mixture: each term is the bound of one product; and what the paper does not know."""
        subsets = getattr(model.posterior, "subsets", "observed")
        if subsets != "observed":
            return f"the loss mvae needs one product for each row; set posterior.subsets='observed', got {subsets!r}"
        if model.has_private:
            return f"the loss mvae takes no private latents; set private_dim=0, got {model.private_dim!r}"
        if model.modality_dropout:
            return "the loss mvae trains subsets by bounds of their own; set modality_dropout=0 and loss.subsets=k"
        return None


@frozen(kw_only=True)
class MVAEConfig(ComposedConfig):
    """The product of the experts that a row has and the prior, trained by several bounds at once."""

    posterior: PosteriorConfig = field(factory=lambda: ProductConfig(prior_expert="every"))
    """The product of the experts, with the prior as one more."""
    loss: LossConfig = field(factory=MVAELossConfig)
    """The sum of bounds."""


spec = ComponentSpec(
    api=1,
    config=MVAEConfig,
    build="mvcore.models:build_multimodal",
    summary="Product of experts (Wu & Goodman, 2018)",
    paper="https://arxiv.org/abs/1802.05335",
    partial_data="Each row trains the bounds of what it has and of each of its modalities; absent ones cost nothing.",
    facts=ModelFacts(
        kind="product of experts",
        private="no",
        likelihood="importance sampling from the product",
        subsets="closed form: the product of what is given",
        cost="1 + M + k densities, each modality decoded from those that have it",
    ),
)

loss = ComponentSpec(
    api=1,
    config=MVAELossConfig,
    build="mvcore_mvae.objective:build",
    summary="Sum of the bounds of a row's modalities, of each one, and of random subsets",
    paper="https://arxiv.org/abs/1802.05335",
)
