"""Joint posteriors: a fusion rule over subsets of modalities."""

from typing import TYPE_CHECKING

from mvcore.faces import face

if TYPE_CHECKING:
    from mvcore.posteriors.base import JointPosterior as JointPosterior
    from mvcore.posteriors.product import ProductOfExperts as ProductOfExperts
    from mvcore.posteriors.specs import PriorExpert as PriorExpert, ProductConfig as ProductConfig, Subsets as Subsets
else:
    __all__, __getattr__, __dir__ = face(
        __name__,
        {
            "base": ("JointPosterior",),
            "product": ("ProductOfExperts",),
            "specs": ("PriorExpert", "ProductConfig", "Subsets"),
        },
    )
