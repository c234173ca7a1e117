"""mAAE and mWAE for mvcore: autoencoders whose codes are matched to a prior. Importing this module imports no torch."""

from __future__ import annotations

from attrs import field, frozen

from mvcore.models import PartsConfig
from mvcore.plugins import ComponentSpec, ModelFacts
from mvcore.validators import all_positive, not_negative, widths


@frozen(kw_only=True)
class MAAEConfig(PartsConfig):
    """Autoencoders of all modalities from each code; a discriminator draws the codes to the prior."""

    matching: float = field(default=1.0, validator=not_negative)
    """Weight λ of −log D at the codes, beside reconstructions in nats. A large one drives the codes to and fro."""
    discriminator_hidden: tuple[int, ...] = field(default=(512, 512), validator=widths)
    """Widths of the discriminator's hidden layers; the paper has two of 1,000."""


@frozen(kw_only=True)
class MWAEConfig(PartsConfig):
    """Autoencoders of all modalities from each code; the maximum mean discrepancy draws the codes to the prior."""

    matching: float = field(default=10.0, validator=not_negative)
    """Weight λ of the discrepancy, beside reconstructions in nats; 10 is that of the paper for MNIST. 0: plain
    autoencoders."""
    scales: tuple[float, ...] = field(default=(0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0), validator=[widths, all_positive])
    """Scales s of the kernel Σ_s C_s / (C_s + ‖z − z'‖²), C_s = 2 D s; the official code's, the paper has 1 alone."""


maae = ComponentSpec(
    api=1,
    config=MAAEConfig,
    build="mvcore_maae.model:build_maae",
    summary="Multi-view adversarial autoencoder: codes matched to a prior by a discriminator (Makhzani et al., 2015)",
    paper="https://arxiv.org/abs/1511.05644",
    partial_data="The code of each modality that a row has decodes all that it has, and is matched to the prior.",
    facts=ModelFacts(
        kind="autoencoders, matched to a prior",
        private="no",
        likelihood="none",
        subsets="the mean of the codes of what is given",
        cost="M decodings of each modality; a discriminator of M codes, twice",
    ),
)

mwae = ComponentSpec(
    api=1,
    config=MWAEConfig,
    build="mvcore_maae.model:build_mwae",
    summary="Multi-view Wasserstein autoencoder: codes matched to a prior by a kernel (Tolstikhin et al., 2018)",
    paper="https://arxiv.org/abs/1711.01558",
    partial_data="The code of each modality that a row has decodes all that it has; those of a batch are matched to "
    "the prior, a modality at a time.",
    facts=ModelFacts(
        kind="autoencoders, matched to a prior",
        private="no",
        likelihood="none",
        subsets="the mean of the codes of what is given",
        cost="M decodings of each modality; M matrices of the batch's rows",
    ),
)
