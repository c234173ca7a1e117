"""Configs and specs of the core's samplers."""

from __future__ import annotations

from attrs import frozen

from mvcore.plugins.spec import ComponentSpec, SamplerConfig


@frozen(kw_only=True)
class PriorSamplerConfig(SamplerConfig):
    """Draws from the model's prior."""


prior_sampler = ComponentSpec(
    api=1,
    config=PriorSamplerConfig,
    build="mvcore.samplers.prior:build",
    summary="Draws from the model's prior",
)
