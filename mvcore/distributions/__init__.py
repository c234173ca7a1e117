"""Distributions over latents."""

from typing import TYPE_CHECKING

from mvcore.faces import face

if TYPE_CHECKING:
    from mvcore.distributions.diagonal import (
        FAMILIES as FAMILIES,
        Diagonal as Diagonal,
        DiagonalLaplace as DiagonalLaplace,
        DiagonalNormal as DiagonalNormal,
        full as full,
    )
    from mvcore.distributions.encoded import Encoded as Encoded
    from mvcore.distributions.joint import JointDistribution as JointDistribution
    from mvcore.distributions.latents import How as How, Latents as Latents
    from mvcore.distributions.mixture import Mixture as Mixture, share_equally as share_equally
    from mvcore.distributions.names import Family as Family, ScaleMap as ScaleMap
    from mvcore.distributions.points import NoPrior as NoPrior, Points as Points, check_density as check_density
    from mvcore.distributions.protocols import LatentDistribution as LatentDistribution
else:
    __all__, __getattr__, __dir__ = face(
        __name__,
        {
            "diagonal": ("Diagonal", "DiagonalLaplace", "DiagonalNormal", "FAMILIES", "full"),
            "encoded": ("Encoded",),
            "joint": ("JointDistribution",),
            "latents": ("How", "Latents"),
            "mixture": ("Mixture", "share_equally"),
            "names": ("Family", "ScaleMap"),
            "points": ("NoPrior", "Points", "check_density"),
            "protocols": ("LatentDistribution",),
        },
    )
