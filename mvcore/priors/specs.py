"""Configs and specs of the core's priors."""

from __future__ import annotations

from attrs import frozen

from mvcore.distributions.names import Family, ScaleMap
from mvcore.plugins.spec import ComponentSpec, PriorConfig


@frozen(kw_only=True)
class StandardPriorConfig(PriorConfig):
    """Location 0 and scale 1, or a learned scale of the shared latent."""

    family: Family = "normal"
    """Family of the prior; that of the posterior."""
    learn_scale: bool = False
    """Whether the scale of the shared latent is learned."""
    scale: ScaleMap = "exp"
    """Map to the learned scale: ``exp``, or ``softmax``: D · softmax (Shi et al., 2019)."""


standard_prior = ComponentSpec(
    api=1,
    config=StandardPriorConfig,
    build="mvcore.priors.standard:build",
    summary="Standard normal or Laplace, or a learned scale",
)
