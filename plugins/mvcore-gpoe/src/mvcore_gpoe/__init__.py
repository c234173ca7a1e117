"""The weighted product of experts for mvcore, a posterior and a model. Importing this module imports no torch."""

from __future__ import annotations

from typing import Any, Literal

from attrs import Attribute, field, frozen

from mvcore.distributions import ScaleMap
from mvcore.losses import ELBOConfig
from mvcore.models import ComposedConfig
from mvcore.plugins import ComponentSpec, LossConfig, ModelFacts, PosteriorConfig
from mvcore.posteriors import PriorExpert, Subsets

Powers = Literal["softmax", "free"]


@frozen(kw_only=True)
class WeightedProductConfig(PosteriorConfig):
    """Products of normal experts, each raised to a learned power for each modality and dimension."""

    subsets: Subsets = field(default="observed")
    """``observed``: one product of all that a row has; ``all``: a mixture of the products of every non-empty subset;
    ``each``, a mixture of the single experts, only where the powers are ``free``."""
    powers: Powers = "softmax"
    """``softmax``: those of a product's members sum to 1 in each dimension, so that experts that agree gain no
    precision and a single expert stays as it is. ``free``: any positive ones, 1 at first, beside the prior as an
    expert, without which they could leave a product without precision."""
    scale: ScaleMap = "exp"
    """Map from an encoder's log-scale to a scale: ``exp``, or ``softmax``: D · softmax."""

    @subsets.validator
    def _check_subsets(self, attribute: Attribute[Any], value: Any) -> None:
        if value == "each" and self.powers == "softmax":
            raise ValueError(
                "subsets='each' leaves nothing to weigh: the power of a single expert is 1; set powers='free', or take "
                "the posterior 'product'"
            )

    @property
    def family(self) -> Literal["normal"]:
        """Family of the experts; a power of any other is not of its family."""
        return "normal"

    @property
    def prior_expert(self) -> PriorExpert:
        """Whether the prior is an expert of every product: where the powers are ``free``."""
        return "every" if self.powers == "free" else "none"


@frozen(kw_only=True)
class GPoEConfig(ComposedConfig):
    """A weighted product of the experts that a row has, trained by its evidence lower bound."""

    posterior: PosteriorConfig = field(factory=WeightedProductConfig)
    """The weighted product."""
    loss: LossConfig = field(factory=ELBOConfig)
    """The negative ELBO."""


spec = ComponentSpec(
    api=1,
    config=GPoEConfig,
    build="mvcore.models:build_multimodal",
    summary="Weighted product of experts (Cao & Fleet, 2014; Lawry Aguila et al., 2023)",
    paper="https://arxiv.org/abs/1410.7827",
    partial_data="Each row trains on the weighted product of what it has, whose powers sum to 1 over that.",
    facts=ModelFacts(
        kind="weighted product of experts",
        private="optional",
        likelihood="importance sampling from the product",
        subsets="closed form: the weighted product of what is given",
        cost="1 density",
    ),
)

weighted_product = ComponentSpec(
    api=1,
    config=WeightedProductConfig,
    build="mvcore_gpoe.posterior:build",
    summary="Product of experts raised to learned powers, or mixture of such products over subsets",
    paper="https://arxiv.org/abs/1410.7827",
)
