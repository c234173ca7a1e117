"""JMVAE for mvcore: a joint encoder with unimodal surrogates. Importing this module imports no torch."""

from __future__ import annotations

from typing import Any, Literal

from attrs import Attribute, field, frozen, validators

from mvcore.models import PartsConfig
from mvcore.plugins import ComponentSpec, ModelFacts


def _widths(instance: Any, attribute: Attribute[Any], value: Any) -> None:
    if not value or not all(v > 0 for v in value):
        raise ValueError(f"{attribute.name} must hold one or more positive widths, got {value!r}")


@frozen(kw_only=True)
class JMVAEConfig(PartsConfig):
    """A joint encoder, and for each modality a surrogate of the posterior given it alone."""

    alpha: float = field(default=0.1, validator=validators.ge(0))
    """Weight α of the joint posterior's divergences from the surrogates; 0.1 in the paper."""
    beta: float = field(default=1.0, validator=validators.ge(0))
    """Weight β of the divergence from the prior."""
    warmup: float = field(default=0.0, validator=validators.ge(0))
    """Epochs over which the weight of all divergences grows linearly from 0; 200 of 500 in the paper's MNIST runs."""
    samples: int = field(default=1, validator=validators.ge(1))
    """Draws of each row's posterior."""
    joint_hidden: tuple[int, ...] = field(default=(512, 512), validator=_widths)
    """Widths of the joint encoder's hidden layers. Tables enter it as they are, anything else through a network like
    the modality's encoder."""
    subsets: Literal["exact", "product"] = "exact"
    """Rows that lack a modality: ``exact``, the product of the surrogates over the prior that each of them but one
    counts too often; ``product``, the plain product of the public library, which gives its published numbers."""
    partial: Literal["elbo", "refuse"] = "elbo"
    """Such rows in training: ``elbo`` trains them on the bound of their surrogates' product, ``refuse`` raises."""


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
