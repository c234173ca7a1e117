"""MMVAE+ for mvcore: a mixture of experts with private latents. Importing this module imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from attrs import field, frozen, validators

from mvcore.models import ComposedConfig
from mvcore.plugins import ComponentSpec, LossConfig, ModelFacts, PosteriorConfig, PriorConfig
from mvcore.posteriors import ProductConfig
from mvcore.priors import StandardPriorConfig


@frozen(kw_only=True)
class MMVAEPlusLossConfig(LossConfig):
    """An importance-weighted bound that reconstructs other modalities with private latents of auxiliary priors."""

    samples: int = field(default=1, validator=validators.ge(1))
    """Draws K from each component: 1 is the official code's default, 10 the article's headline."""
    beta: float = field(default=1.0, validator=validators.ge(0))
    """Weight β of log p(u) + log p(w) − log q(u) − log q(w); 1 in the official code, 2.5 in runs on PolyMNIST."""
    warmup: float = field(default=0.0, validator=validators.ge(0))
    """Epochs over which β grows linearly from 0; the official code has no such warm-up."""
    estimator: Literal["iwae", "dreg"] = "iwae"
    """The gradient of the bound: ``iwae``, unbiased, the official default; ``dreg``, doubly reparametrised, of less
    variance, the official choice for K > 1, where it is biased on rows with several modalities."""
    auxiliary: StandardPriorConfig = field(
        factory=lambda: StandardPriorConfig(family="laplace", learn_scale=True, scale="softmax")
    )
    """The auxiliary prior of each private latent; a Laplace with learned D · softmax scales in the official code."""

    def refuses(self, model: ComposedConfig) -> str | None:
        """Refuses a posterior whose components are not the single modalities, and a model without private latents."""
        subsets = getattr(model.posterior, "subsets", "each")
        if subsets != "each":
            return f"the loss mmvaeplus needs a component a modality; set posterior.subsets='each', got {subsets!r}"
        if not model.has_private:
            return f"the loss mmvaeplus needs private latents; set private_dim to 1 or more, got {model.private_dim!r}"
        if model.modality_dropout:
            return "the loss mmvaeplus predicts each modality from every single other; set modality_dropout=0"
        return None

    def refuses_prior(self, prior: PriorConfig) -> str | None:
        """Takes any prior: its log-density is taken at the draws."""
        return None


@frozen(kw_only=True)
class MMVAEPlusConfig(ComposedConfig):
    """A mixture of experts over a shared latent, with a private latent for each modality."""

    latent_dim: int = field(default=32, validator=validators.gt(0))
    """Dimensions D of the shared latent; 32 in the official code."""
    private_dim: int | Mapping[str, int] = field(default=32)
    """Dimensions of the private latents, one number or one for each named modality; 32 in the official code."""
    posterior: PosteriorConfig = field(
        factory=lambda: ProductConfig(subsets="each", prior_expert="none", family="laplace", scale="softmax")
    )
    """The mixture of the single experts, Laplace with D · softmax scales in the official code."""
    prior: PriorConfig = field(factory=lambda: StandardPriorConfig(family="laplace"))
    """The prior of the shared and the private latents, of fixed scale 1 in the official code."""
    loss: LossConfig = field(factory=MMVAEPlusLossConfig)
    """The bound; its K and β are the official code's defaults."""


spec = ComponentSpec(
    api=1,
    config=MMVAEPlusConfig,
    build="mvcore.models:build_multimodal",
    summary="Mixture of experts with private latents (Palumbo et al., 2023)",
    paper="https://openreview.net/forum?id=sdQGxouELX",
    partial_data="Each row trains on the experts of what it has, with equal weights; absent modalities cost nothing.",
    facts=ModelFacts(
        kind="mixture of experts",
        private="yes",
        likelihood="importance sampling, stratified over the mixture",
        subsets="closed form: the mixture of what is given",
        cost="M densities; M decodings of each modality, K draws each",
    ),
)

loss = ComponentSpec(
    api=1,
    config=MMVAEPlusLossConfig,
    build="mvcore_mmvaeplus.objective:build",
    summary="Bound of a mixture of experts with auxiliary priors of the private latents",
    paper="https://openreview.net/forum?id=sdQGxouELX",
)
