"""MVTCAE for mvcore: the total correlation auto-encoder. Importing this module imports no torch."""

from __future__ import annotations

from typing import Literal

from attrs import Attribute, field, frozen, validators

from mvcore.models import ComposedConfig
from mvcore.plugins import ComponentSpec, LossConfig, ModelFacts, PosteriorConfig
from mvcore.posteriors import ProductConfig


@frozen(kw_only=True)
class MVTCAELossConfig(LossConfig):
    """Reconstruction, the divergence from the prior, and those from the single experts."""

    alpha: float | Literal["modalities"] = field(default="modalities")
    """Share α of the total correlation. ``modalities``: M / (M + 1) for the M modalities that a row has, so that
    its divergences weigh the same; on five that is the official 5/6. A number gives a row of one modality 1 − α of an
    ELBO."""
    beta: float = field(default=1.0, validator=validators.ge(0))
    """Weight β of all divergences; 2.5 in the official runs on PolyMNIST."""
    warmup: float = field(default=0.0, validator=validators.ge(0))
    """Epochs over which β grows linearly from 0."""
    samples: int = field(default=1, validator=validators.ge(1))
    """Draws of each row's posterior."""

    @alpha.validator
    def _check_alpha(self, attribute: Attribute[object], value: object) -> None:
        if not isinstance(value, str) and not 0 <= value <= 1:  # type: ignore[operator]
            raise ValueError(f"alpha must lie in [0, 1] or be 'modalities', got {value!r}")

    def refuses(self, model: ComposedConfig) -> str | None:
        """Refuses a mixture: the loss is that of one product of all that a row has, and of each of its experts."""
        subsets = getattr(model.posterior, "subsets", "observed")
        if subsets != "observed":
            return f"the loss mvtcae needs one product for each row; set posterior.subsets='observed', got {subsets!r}"
        if model.modality_dropout:
            return "the loss mvtcae compares the posterior with the expert of each modality; set modality_dropout=0"
        return None


@frozen(kw_only=True)
class MVTCAEConfig(ComposedConfig):
    """A product of experts without a prior expert, trained to hold the total correlation of the modalities."""

    posterior: PosteriorConfig = field(factory=lambda: ProductConfig(prior_expert="none"))
    """The product of the experts that a row has."""
    loss: LossConfig = field(factory=MVTCAELossConfig)
    """The objective."""


spec = ComponentSpec(
    api=1,
    config=MVTCAEConfig,
    build="mvcore.models:build_multimodal",
    summary="Total correlation auto-encoder (Hwang et al., 2021)",
    paper="https://openreview.net/forum?id=5Ev8NJxhBF",
    partial_data="Each row trains on the product of what it has, its weights those of its number of modalities.",
    facts=ModelFacts(
        kind="product of experts",
        private="optional",
        likelihood="importance sampling from the product",
        subsets="closed form: the product of what is given",
        cost="1 density and M divergences",
    ),
)

loss = ComponentSpec(
    api=1,
    config=MVTCAELossConfig,
    build="mvcore_mvtcae.objective:build",
    summary="Objective of the total correlation auto-encoder",
    paper="https://openreview.net/forum?id=5Ev8NJxhBF",
)
