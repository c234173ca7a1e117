"""Priors of the shared and the private latents."""

from typing import TYPE_CHECKING

from mvcore.faces import face

if TYPE_CHECKING:
    from mvcore.priors.base import Prior as Prior
    from mvcore.priors.specs import StandardPriorConfig as StandardPriorConfig
    from mvcore.priors.standard import StandardPrior as StandardPrior
else:
    __all__, __getattr__, __dir__ = face(
        __name__,
        {
            "base": ("Prior",),
            "specs": ("StandardPriorConfig",),
            "standard": ("StandardPrior",),
        },
    )
