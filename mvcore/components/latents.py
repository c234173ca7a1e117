"""Configs and specs of the core's posteriors, priors and samplers."""

from __future__ import annotations

from typing import Literal

from attrs import frozen

from mvcore.components.base import spec
from mvcore.plugins.spec import PosteriorConfig, PriorConfig, SamplerConfig

Family = Literal["normal", "laplace"]
ScaleMap = Literal["exp", "softmax"]


@frozen(kw_only=True)
class ProductConfig(PosteriorConfig):
    """A product of experts over one or more subsets of the observed modalities."""

    subsets: Literal["observed", "each", "all"] = "observed"
    """``observed``: one product of all that a row has; ``each``: a mixture of the single experts; ``all``: a mixture of
    the products of every non-empty subset."""
    prior_expert: Literal["none", "every", "full"] = "every"
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


@frozen(kw_only=True)
class StandardPriorConfig(PriorConfig):
    """Location 0 and scale 1, or a learned scale of the shared latent."""

    family: Family = "normal"
    """Family of the prior; that of the posterior."""
    learn_scale: bool = False
    """Whether the scale of the shared latent is learned."""
    scale: ScaleMap = "exp"
    """Map to the learned scale: ``exp``, or ``softmax``: D · softmax (Shi et al., 2019)."""


@frozen(kw_only=True)
class PriorSamplerConfig(SamplerConfig):
    """Draws from the model's prior."""


product = spec(ProductConfig, "product", "Product of experts, or mixture of such products over subsets")
standard_prior = spec(StandardPriorConfig, "standard_prior", "Standard normal or Laplace, or a learned scale")
prior_sampler = spec(PriorSamplerConfig, "prior_sampler", "Draws from the model's prior")
