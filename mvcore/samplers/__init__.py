"""Samplers of the latent space, fitted after training."""

from typing import TYPE_CHECKING

from mvcore.faces import face

if TYPE_CHECKING:
    from mvcore.samplers.base import Sampler as Sampler
    from mvcore.samplers.prior import PriorSampler as PriorSampler
    from mvcore.samplers.specs import PriorSamplerConfig as PriorSamplerConfig
else:
    __all__, __getattr__, __dir__ = face(
        __name__,
        {
            "base": ("Sampler",),
            "prior": ("PriorSampler",),
            "specs": ("PriorSamplerConfig",),
        },
    )
