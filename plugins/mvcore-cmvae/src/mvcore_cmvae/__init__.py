"""CMVAE for mvcore: MMVAE+ with clusters of the shared latent. Importing this module imports no torch."""

from __future__ import annotations

from attrs import field, frozen

from mvcore.distributions import Family, ScaleMap
from mvcore.plugins import ComponentSpec, ModelFacts, PriorConfig
from mvcore.validators import positive
from mvcore_mmvaeplus import MMVAEPlusConfig


@frozen(kw_only=True)
class ClustersPriorConfig(PriorConfig):
    """A mixture of clusters with learned locations and weights over the shared latent."""

    clusters: int = field(default=40, validator=positive)
    """Clusters C: more than there may be, to be pruned after training; 40 in the runs on PolyMNIST."""
    family: Family = "normal"
    """Family of each cluster; that of the posterior."""
    learn_scale: bool = False
    """Whether each cluster's scale is learned; 1 otherwise, as in the public runs."""
    scale: ScaleMap = "exp"
    """Map to the learned scales: ``exp``, or ``softmax``: D · softmax."""

    @property
    def is_mixture(self) -> bool:
        """Whether there are several clusters."""
        return self.clusters > 1


@frozen(kw_only=True)
class CMVAEConfig(MMVAEPlusConfig):
    """MMVAE+ whose shared latent has a prior of clusters; its loss, posterior and sizes are MMVAE+'s."""

    prior: PriorConfig = field(factory=lambda: ClustersPriorConfig(family="laplace"))
    """The prior: Laplace clusters of scale 1 in the public runs; private latents have a Laplace of scale 1."""


spec = ComponentSpec(
    api=1,
    config=CMVAEConfig,
    build="mvcore.models:build_multimodal",
    summary="MMVAE+ with clusters of the shared latent (Palumbo et al., 2024)",
    paper="https://openreview.net/forum?id=k5THrhXDV3",
    partial_data="Each row trains on the experts of what it has, with equal weights; absent modalities cost nothing.",
    facts=ModelFacts(
        kind="mixture of experts, clustered prior",
        private="yes",
        likelihood="importance sampling, stratified over the mixture",
        subsets="closed form: the mixture of what is given",
        cost="M + C densities; M decodings of each modality, K draws each",
    ),
)

clusters = ComponentSpec(
    api=1,
    config=ClustersPriorConfig,
    build="mvcore_cmvae.prior:build",
    summary="Mixture of clusters with learned locations and weights",
    paper="https://openreview.net/forum?id=k5THrhXDV3",
)
