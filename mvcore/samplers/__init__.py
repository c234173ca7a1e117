"""Samplers of the latent space, fitted after training."""

from typing import TYPE_CHECKING

from mvcore.faces import face

if TYPE_CHECKING:
    from mvcore.samplers.base import Sampler as Sampler
    from mvcore.samplers.fitting import fit_sampler as fit_sampler
    from mvcore.samplers.mixture import GaussianMixtureSampler as GaussianMixtureSampler
    from mvcore.samplers.prior import PriorSampler as PriorSampler
    from mvcore.samplers.specs import (
        GaussianMixtureConfig as GaussianMixtureConfig,
        PriorSamplerConfig as PriorSamplerConfig,
    )
else:
    __all__, __getattr__, __dir__ = face(
        __name__,
        {
            "base": ("Sampler",),
            "fitting": ("fit_sampler",),
            "mixture": ("GaussianMixtureSampler",),
            "prior": ("PriorSampler",),
            "specs": ("GaussianMixtureConfig", "PriorSamplerConfig"),
        },
    )
