"""JMVAE for mvcore: a joint encoder with unimodal surrogates. Importing this module imports no torch."""

from __future__ import annotations

from attrs import field, frozen, validators

from mvcore.models import SurrogateConfig
from mvcore.plugins import ComponentSpec, ModelFacts


@frozen(kw_only=True)
class JMVAEConfig(SurrogateConfig):
    """A joint encoder, and for each modality a surrogate of the posterior given it alone."""

    alpha: float = field(default=0.1, validator=validators.ge(0))
    """Weight α of the joint posterior's divergences from the surrogates; 0.1 in the paper."""
    beta: float = field(default=1.0, validator=validators.ge(0))
    """Weight β of the divergence from the prior."""
    warmup: float = field(default=0.0, validator=validators.ge(0))
    """Epochs over which the weight of all divergences grows linearly from 0; 200 of 500 in the paper's MNIST runs."""


spec = ComponentSpec(
    api=1,
    config=JMVAEConfig,
    build="mvcore_jmvae.model:build",
    summary="Joint encoder with unimodal surrogates (Suzuki et al., 2016)",
    paper="https://arxiv.org/abs/1611.01891",
    partial_data="Complete rows train the joint encoder; a partial row trains decoders and surrogates by the bound of "
    "the product of what it has; partial='refuse' raises.",
    facts=ModelFacts(
        kind="joint encoder and surrogates",
        private="no",
        likelihood="importance sampling from the joint encoder; from the surrogates' product where one is missing",
        subsets="closed form: the exact product of surrogates",
        cost="2 densities and M divergences; a joint encoder",
    ),
)
