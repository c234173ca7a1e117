"""An example of a plugin: a fusion rule, and the model that uses it. Importing this module imports no torch."""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen

from mvcore.models import ComposedConfig
from mvcore.plugins import ComponentSpec, ModelFacts, PosteriorConfig


@frozen(kw_only=True)
class BarycentreConfig(PosteriorConfig):
    """The barycentre of the experts of each subset."""

    subsets: Literal["observed", "each", "all"] = "observed"
    """Which subsets of the observed modalities are components of the posterior."""


@frozen(kw_only=True)
class ExampleConfig(ComposedConfig):
    """A multimodal VAE whose joint posterior is the barycentre of the experts."""

    posterior: PosteriorConfig = field(factory=BarycentreConfig)
    """The joint posterior."""


posterior = ComponentSpec(
    api=1, config=BarycentreConfig, build="mvcore_example.barycentre:build", summary="Wasserstein barycentre of experts"
)

spec = ComponentSpec(
    api=1,
    config=ExampleConfig,
    build="mvcore.models:build_multimodal",
    summary="An example of a model",
    partial_data="Each row trains on the barycentre of what it has.",
    facts=ModelFacts(
        kind="barycentre of experts",
        private="optional",
        likelihood="importance sampling from the posterior",
        subsets="closed form: the barycentre of what is given",
        cost="1 density",
    ),
)
