"""Configs and specs of the core's joint posteriors."""

from __future__ import annotations

from typing import Literal

from attrs import frozen

from mvcore.distributions.names import Family, ScaleMap
from mvcore.plugins.spec import ComponentSpec, PosteriorConfig

Subsets = Literal["observed", "each", "all"]
PriorExpert = Literal["none", "every", "full"]


@frozen(kw_only=True)
class ProductConfig(PosteriorConfig):
    """A product of experts over one or more subsets of the observed modalities."""

    subsets: Subsets = "observed"
    """``observed``: one product of all that a row has; ``each``: a mixture of the single experts; ``all``: a mixture of
    the products of every non-empty subset."""
    prior_expert: PriorExpert = "every"
    """Which products have the prior as one more expert; ``full``: that of all the model's modalities alone."""
    family: Family = "normal"
    """Family of the experts; a Laplace has no product, so it needs the subsets ``each`` and no prior expert."""
    scale: ScaleMap = "exp"
    """Map from an encoder's log-scale to a scale: ``exp``, or ``softmax``: D · softmax (Shi et al., 2019)."""

    def __attrs_post_init__(self) -> None:
        """Refuses products that are not of the family."""
        if self.family == "laplace" and (self.subsets, self.prior_expert) != ("each", "none"):
            raise ValueError(
                "a product of Laplace experts is not Laplace; set subsets='each' and prior_expert='none', got "
                f"subsets={self.subsets!r} and prior_expert={self.prior_expert!r}"
            )


product = ComponentSpec(
    api=1,
    config=ProductConfig,
    build="mvcore.posteriors.product:build",
    summary="Product of experts, or mixture of such products over subsets",
)
