"""MMVAE for mvcore: the mixture of experts. Importing this module imports no torch."""

from __future__ import annotations

from attrs import field, frozen

from mvcore.losses import DReGConfig
from mvcore.models import ComposedConfig
from mvcore.plugins import ComponentSpec, LossConfig, ModelFacts, PosteriorConfig, PriorConfig
from mvcore.posteriors import ProductConfig
from mvcore.priors import StandardPriorConfig


@frozen(kw_only=True)
class MMVAEConfig(ComposedConfig):
    """A mixture of the experts of the observed modalities, with Laplace latents and an importance-weighted bound."""

    posterior: PosteriorConfig = field(
        factory=lambda: ProductConfig(subsets="each", prior_expert="none", family="laplace", scale="softmax")
    )
    """The mixture of the single experts; Laplace with D · softmax scales in the paper."""
    prior: PriorConfig = field(factory=lambda: StandardPriorConfig(family="laplace", learn_scale=True, scale="softmax"))
    """The prior: a Laplace whose D · softmax scale is learned in the paper."""
    loss: LossConfig = field(factory=lambda: DReGConfig(samples=30))
    """The paper's bound, ``looser``, and gradient, DReG, with its K = 30 of MNIST-SVHN (50 on CUB). That gradient has a
    bias at K > 1 for rows with several modalities; ``iwae`` has none."""


spec = ComponentSpec(
    api=1,
    config=MMVAEConfig,
    build="mvcore.models:build_multimodal",
    summary="Mixture of experts (Shi et al., 2019)",
    paper="https://arxiv.org/abs/1911.03393",
    partial_data="Each row trains on the experts of what it has, with equal weights; absent modalities cost nothing.",
    facts=ModelFacts(
        kind="mixture of experts",
        private="optional",
        likelihood="importance sampling, stratified over the mixture",
        subsets="closed form: the mixture of what is given",
        cost="M densities; M decodings of each modality, K draws each",
    ),
)
