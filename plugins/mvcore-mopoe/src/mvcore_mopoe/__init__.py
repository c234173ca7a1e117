"""MoPoE for mvcore: the mixture of products of experts. Importing this module imports no torch."""

from __future__ import annotations

from attrs import field, frozen

from mvcore.losses import ELBOConfig
from mvcore.models import ComposedConfig
from mvcore.plugins import ComponentSpec, LossConfig, ModelFacts, PosteriorConfig
from mvcore.posteriors import ProductConfig


@frozen(kw_only=True)
class MoPoEConfig(ComposedConfig):
    """A mixture of the products of experts of every non-empty subset of the observed modalities."""

    posterior: PosteriorConfig = field(factory=lambda: ProductConfig(subsets="all", prior_expert="none"))
    """The mixture over all subsets. ``prior_expert``: ``none`` is the paper's equation, ``full`` its official code and
    published numbers, ``every`` is exact for linear models."""
    loss: LossConfig = field(factory=ELBOConfig)
    """The negative ELBO with the convex bound of the mixture's divergence; the paper's images have β = 2.5."""


spec = ComponentSpec(
    api=1,
    config=MoPoEConfig,
    build="mvcore.models:build_multimodal",
    summary="Mixture of products of experts (Sutter et al., 2021)",
    paper="https://arxiv.org/abs/2105.02470",
    partial_data="Each row trains on the subsets of the modalities it has, equally weighted; absent ones cost nothing.",
    facts=ModelFacts(
        kind="mixture of products of experts",
        private="optional",
        likelihood="importance sampling, stratified over the mixture",
        subsets="closed form: the mixture over subsets of what is given",
        cost="2^M − 1 densities, one matrix product; one draw a row",
    ),
)
