"""TELBO for mvcore: a joint encoder and surrogates, a bound each. Importing this module imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from attrs import Attribute, field, frozen, validators

from mvcore.models import SurrogateConfig
from mvcore.plugins import ComponentSpec, ModelFacts
from mvcore.validators import positive


@frozen(kw_only=True)
class TELBOConfig(SurrogateConfig):
    """A joint VAE, and for each modality a surrogate that is trained by the bound of that modality alone."""

    stages: Literal["two", "one"] = "two"
    """``two``: first the joint VAE, then, with it frozen, the surrogates; ``one``: the official single stage, both
    losses at once, in which the surrogates' bounds send no gradient to the decoders' parameters."""
    joint_share: float = field(default=0.5, validator=[validators.gt(0), validators.lt(1)])
    """Share of the epochs that trains the joint VAE, of two stages."""
    gamma: float | Mapping[str, float] = field(default=1.0)
    """Weights γ_m of the log-likelihoods in the surrogates' bounds, times the modality's own weight, which is that of
    the joint bound (λ_m in the paper): one number for all modalities, or one for each named, 1 for others. The paper
    has 50 or more for attributes beside images."""

    @gamma.validator
    def _check_gamma(self, attribute: Attribute[Any], value: Any) -> None:
        for weight in value.values() if isinstance(value, Mapping) else [value]:
            positive(self, attribute, weight)


spec = ComponentSpec(
    api=1,
    config=TELBOConfig,
    build="mvcore_telbo.model:build",
    summary="Joint encoder and surrogates, each with a bound of its own (Vedantam et al., 2018)",
    paper="https://arxiv.org/abs/1705.10762",
    partial_data="Complete rows train the joint encoder; a partial row trains decoders and surrogates by the bound of "
    "the product of what it has, and each of its surrogates by its own; partial='refuse' raises.",
    facts=ModelFacts(
        kind="joint encoder and surrogates",
        private="no",
        likelihood="importance sampling from the joint encoder; from the surrogates' product where one is missing",
        subsets="closed form: the exact product of surrogates",
        cost="1 + M densities, each surrogate decoded to its own modality; a joint encoder",
    ),
)
