"""JNF for mvcore: a joint encoder, then a normalizing flow for each modality. Importing it imports no torch."""

from __future__ import annotations

from typing import Any, Literal

from attrs import Attribute, field, frozen, validators

from mvcore.models import PartsConfig
from mvcore.plugins import Checked, ComponentSpec, ModelFacts


def _widths(instance: Any, attribute: Attribute[Any], value: Any) -> None:
    if not value or not all(v > 0 for v in value):
        raise ValueError(f"{attribute.name} must hold one or more positive widths, got {value!r}")


@frozen(kw_only=True)
class FlowConfig(Checked):
    """The flow of each modality, between its encoder's normal and q(z | x_m)."""

    kind: Literal["autoregressive", "coupling"] = "autoregressive"
    """``autoregressive``: the paper's masked autoregressive flow; a draw takes D passes through each transform, its
    density one. ``coupling``: two passes for a draw, so that partial rows train and large latents sample faster."""
    transforms: int = field(default=2, validator=validators.ge(1))
    """Number of transforms; 2 in the public code."""
    hidden: tuple[int, ...] = field(default=(128, 128, 128), validator=_widths)
    """Widths of the hidden layers of each transform's network; three of 128 in the public code."""


@frozen(kw_only=True)
class HMCConfig(Checked):
    """Hamiltonian Monte Carlo, for rows with two or more modalities but not all."""

    steps: int = field(default=100, validator=validators.ge(1))
    """Steps before the first draw of a chain; 100 in the public code."""
    adapt: int = field(default=50, validator=validators.ge(0))
    """How many of these steps adapt the step size of each row."""
    leapfrog: int = field(default=10, validator=validators.ge(1))
    """Leapfrog steps, and so gradients, of one step; 10 in the public code."""
    step_size: float = field(default=0.1, validator=validators.gt(0))
    """Step size at the start, in units of the standard deviations of the product of the encoders' normals."""
    acceptance: float = field(default=0.8, validator=[validators.gt(0), validators.lt(1)])
    """Acceptance rate that the step size is adapted to."""
    chains: int = field(default=8, validator=validators.ge(1))
    """Most chains of a row; they start from its flows in turn. Further draws come from later states of the chains."""
    thin: int = field(default=5, validator=validators.ge(1))
    """Steps between two draws of a chain."""
    reach: float = field(default=5.0, validator=validators.gt(0))
    """Latents of a norm above √D + reach are cut off: where flows are wider than the prior, their product grows without
    bound. Exact posteriors hold on average less than exp(−reach²/2) there, 4e-6 for 5; ``inf`` cuts nothing."""

    def __attrs_post_init__(self) -> None:
        """Refuses an adaptation that would go on in the draws."""
        if self.adapt > self.steps:
            raise ValueError(f"adapt must be at most steps ({self.steps}), got {self.adapt}")


@frozen(kw_only=True)
class DCCAConfig(Checked):
    """Deep canonical correlation analysis, which embeds each modality before its flow sees it."""

    dimensions: int = field(default=20, validator=validators.ge(1))
    """Dimensions of the embeddings; 20 in the public code (9, one fewer than the classes, for its MNIST-SVHN)."""
    hidden: tuple[int, ...] = field(default=(512,), validator=_widths)
    """Widths of the network between an embedding and its flow; the modality's encoder gives the embedding."""
    share: float = field(default=0.25, validator=[validators.gt(0), validators.lt(1)])
    """Share of the epochs that trains the embeddings; the public code has 30 to 200 epochs before the others."""
    ridge: float = field(default=1e-3, validator=validators.gt(0))
    """What is added to the variances of the embeddings in the correlation; the public code's."""


@frozen(kw_only=True)
class JNFConfig(PartsConfig):
    """A joint VAE, then a normalizing flow for each modality's posterior."""

    beta: float = field(default=1.0, validator=validators.ge(0))
    """Weight β of the divergence from the prior."""
    warmup: float = field(default=0.0, validator=validators.ge(0))
    """Epochs of the first stage over which β grows linearly from 0."""
    samples: int = field(default=1, validator=validators.ge(1))
    """Draws of each posterior that a loss takes."""
    joint_hidden: tuple[int, ...] = field(default=(512, 512), validator=_widths)
    """Widths of the joint encoder's hidden layers. Tables enter it as they are, anything else through a network like
    the modality's encoder."""
    joint_share: float = field(default=0.5, validator=[validators.gt(0), validators.lt(1)])
    """Share of the epochs that trains the joint VAE; the others train the flows. With ``dcca`` of those it leaves."""
    flow: FlowConfig = field(factory=FlowConfig)
    """The flows."""
    dcca: DCCAConfig | None = None
    """Flows conditioned on embeddings that deep CCA has trained, in a stage before all others (the papers' JNF-DCCA);
    None: on the modalities themselves."""
    hmc: HMCConfig = field(factory=HMCConfig)
    """The sampler of subsets."""
    point_draws: int = field(default=32, validator=validators.ge(1))
    """Draws whose mean is the point estimate of a row that lacks a modality."""
    partial: Literal["mixture", "refuse"] = "mixture"
    """Rows that lack a modality: ``mixture`` trains them on the mean of their flows' bounds, ``refuse`` raises."""


spec = ComponentSpec(
    api=1,
    config=JNFConfig,
    build="mvcore_jnf.model:build",
    summary="Joint encoder, then a normalizing flow for each modality (Senellart et al., 2023 and 2025)",
    paper="https://arxiv.org/abs/2502.03952",
    partial_data="Complete rows train the joint encoder; a partial row trains decoders and flows by the mean of the "
    "bounds that its modalities' flows give; partial='refuse' raises.",
    facts=ModelFacts(
        kind="joint encoder and flows",
        private="no",
        likelihood="importance sampling from the joint encoder; from the mixture of flows where one is missing",
        subsets="Hamiltonian Monte Carlo on the exact product of flows",
        cost="1 + M densities; a joint encoder and M flows",
    ),
)
