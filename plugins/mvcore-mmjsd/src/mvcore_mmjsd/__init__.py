"""mmJSD for mvcore: a divergence of all experts from a dynamic prior. Importing this module imports no torch."""

from __future__ import annotations

from attrs import field, frozen

from mvcore.models import ComposedConfig
from mvcore.plugins import ComponentSpec, LossConfig, ModelFacts, PosteriorConfig
from mvcore.posteriors import ProductConfig
from mvcore.validators import not_negative, positive


@frozen(kw_only=True)
class MMJSDLossConfig(LossConfig):
    """Reconstruction from the mixture of experts, and the experts' Jensen-Shannon divergence from a dynamic prior."""

    beta: float = field(default=1.0, validator=not_negative)
    """Weight β of all divergences; 5 in the official code, which weights likelihoods by the modalities' sizes."""
    warmup: float = field(default=0.0, validator=not_negative)
    """Epochs over which β grows linearly from 0."""
    beta_private: float = field(default=1.0, validator=not_negative)
    """Weight of the private latents' divergences, times β; 3 in the official code."""
    prior_weight: float = field(default=1.0, validator=not_negative)
    """Weight of the prior beside that of each modality's expert, 1: π_0 = w / (|O| + w), and 1 / (|O| + w) for each
    expert. 1 in the paper and the official code; 0 leaves the prior out of the divergence and of the dynamic prior."""
    reconstruct_prior: bool = False
    """Whether z is drawn from the prior too, with probability π_0. The official code gives the prior no draws; the
    public library does, in models without private latents."""
    samples: int = field(default=1, validator=positive)
    """Draws for each row, or, stratified, for each component."""
    stratified: bool = False
    """Whether every component of the mixture is drawn from, instead of one drawn at random for each row."""

    def refuses(self, model: ComposedConfig) -> str | None:
        """Refuses a posterior whose components are not single normal experts."""
        subsets = getattr(model.posterior, "subsets", "each")
        if subsets != "each":
            return f"the loss mmjsd needs a component a modality; set posterior.subsets='each', got {subsets!r}"
        family = getattr(model.posterior, "family", "normal")
        if family != "normal":
            return (
                f"the dynamic prior of the loss mmjsd is one of normals; set posterior.family='normal', got {family!r}"
            )
        return None


@frozen(kw_only=True)
class MMJSDConfig(ComposedConfig):
    """A mixture of the single experts, held together by their divergence from a dynamic prior."""

    posterior: PosteriorConfig = field(factory=lambda: ProductConfig(subsets="each", prior_expert="none"))
    """The mixture of the experts that a row has."""
    loss: LossConfig = field(factory=MMJSDLossConfig)
    """The objective."""


spec = ComponentSpec(
    api=1,
    config=MMJSDConfig,
    build="mvcore.models:build_multimodal",
    summary="Jensen-Shannon divergence with a dynamic prior (Sutter et al., 2020)",
    paper="https://arxiv.org/abs/2006.08242",
    partial_data="Each row trains on the experts of what it has, and on the prior, with equal weights.",
    facts=ModelFacts(
        kind="mixture of experts, dynamic prior",
        private="optional",
        likelihood="importance sampling, stratified over the mixture",
        subsets="closed form: the mixture of what is given",
        cost="M densities and M + 1 divergences; one draw a row",
    ),
)

loss = ComponentSpec(
    api=1,
    config=MMJSDLossConfig,
    build="mvcore_mmjsd.objective:build",
    summary="Jensen-Shannon divergence of the experts from their dynamic prior",
    paper="https://arxiv.org/abs/2006.08242",
)
