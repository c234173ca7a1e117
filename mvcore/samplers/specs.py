"""Configs and specs of the core's samplers."""

from __future__ import annotations

from attrs import field, frozen

from mvcore.plugins.spec import ComponentSpec, SamplerConfig
from mvcore.validators import positive


@frozen(kw_only=True)
class PriorSamplerConfig(SamplerConfig):
    """Draws from the model's prior."""


@frozen(kw_only=True)
class GaussianMixtureConfig(SamplerConfig):
    """A mixture of normals with full covariances, fitted to posterior draws of the training rows."""

    components: int = field(default=10, validator=positive)
    """Normals of the mixture."""


prior_sampler = ComponentSpec(
    api=1,
    config=PriorSamplerConfig,
    build="mvcore.samplers.prior:build",
    summary="Draws from the model's prior",
)
gaussian_mixture = ComponentSpec(
    api=1,
    config=GaussianMixtureConfig,
    build="mvcore.samplers.mixture:build",
    summary="Mixture of normals fitted to posterior draws",
    paper="https://arxiv.org/abs/1903.12436",
)
