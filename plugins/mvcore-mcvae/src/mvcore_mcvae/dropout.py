"""Variational dropout of latent dimensions: the posterior, and its bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from mvcore.data import Batch, ModalitySpec
from mvcore.distributions import Diagonal, Encoded, How, Mixture
from mvcore.errors import ConfigError
from mvcore.losses import Loss, LossOutput, Pass, warmed
from mvcore.posteriors import JointPosterior
from mvcore_mcvae import DropoutLossConfig, DropoutPosteriorConfig

#: Constants of the published approximation (Molchanov et al., 2017, equation 14).
_K1, _K2, _K3 = 0.63576, 1.87320, 1.48695


@final
class DropoutExperts(JointPosterior):
    r"""The mixture of the experts :math:`q(z_d \mid x_m) = N(\mu_{md}, \alpha_d \mu_{md}^2)`.

    The rates α are parameters of the posterior, one a latent dimension; the encoders' own scales of the shared latent
    are not used. Private latents keep theirs.

    Args:
        modalities: Names of the model's modalities.
        latent_dim: Dimensions D of the shared latent.

    References:
        | Sparse Multi-Channel Variational Autoencoder for the Joint Analysis of Heterogeneous Data (Antelmi et al.,
        | 2019), https://proceedings.mlr.press/v97/antelmi19a.html
    """

    def __init__(self, modalities: Sequence[str], latent_dim: int) -> None:
        super().__init__(modalities, subsets="each", prior_expert="none")
        self.log_alpha = nn.Parameter(0.01 * torch.randn(latent_dim))

    @property
    def rates(self) -> Tensor:
        """The dropout rate p = α / (1 + α) of each dimension ``(D,)``."""
        return self.log_alpha.sigmoid()

    def fuse(self, experts: Diagonal, S: Tensor) -> Diagonal:
        """Is not called: every component is a single expert."""
        raise ConfigError(
            [f"variational_dropout has no product of experts; its subsets are 'each', got {self.subsets!r}"]
        )

    def forward(self, encoded: Mapping[str, Encoded], batch: Batch, prior: Mixture) -> Mixture:
        """The posterior of each row."""
        return super().forward({m: self._scaled(e) for m, e in encoded.items()}, batch, prior)

    def divergence(self) -> Tensor:
        r"""KL(q ‖ log-uniform) in nats, summed over the dimensions: it depends on α alone.

        The published approximation, which is 0 as α → ∞:
        :math:`-k_1 \sigma(k_2 + k_3 \log\alpha) + \frac12 \log(1 + 1/\alpha) + k_1`.
        """
        log_alpha = self.log_alpha.to(torch.promote_types(self.log_alpha.dtype, torch.float32))
        return (_K1 * (1 - (_K2 + _K3 * log_alpha).sigmoid()) + 0.5 * softplus(-log_alpha)).sum()

    def _scaled(self, encoded: Encoded) -> Encoded:
        loc = encoded.loc
        size = loc.abs().clamp(min=torch.finfo(loc.dtype).tiny)  # log 0 has no gradient
        log_scale = size.log() + 0.5 * self.log_alpha.to(loc)
        return Encoded(loc, log_scale, encoded.private_loc, encoded.private_log_scale)


@final
class DropoutLoss(nn.Module):
    r"""The negative bound of each row with :class:`DropoutExperts`, averaged over the modalities that it has.

    .. math::
        -\frac{1}{|O|} \sum_{c \in O} E_{q_c} \sum_{m \in O} r_m \log p(x_m|z)
        + \beta \Big[\sum_d KL(\alpha_d) + \sum_m KL(q(w_m|x_m)\|p)\Big]

    The prior of the shared latent is the improper log-uniform one, not the model's: no density of the data is bounded.

    Args:
        beta: β.
        warmup: Epochs over which β grows linearly from 0.
        samples: Draws of each row, or, stratified, of each modality.
        stratified: Whether every modality's latent decodes.

    References:
        | Variational Dropout Sparsifies Deep Neural Networks (Molchanov et al., 2017)
        | https://arxiv.org/abs/1701.05369
    """

    def __init__(self, *, beta: float = 1.0, warmup: float = 0.0, samples: int = 1, stratified: bool = True) -> None:
        super().__init__()
        self.beta, self.warmup, self.samples, self.stratified = beta, warmup, samples, stratified

    def forward(self, p: Pass) -> LossOutput:
        """The loss and its terms, which sum to it, in nats.

        Raises:
            ConfigError: If the posterior is another.
        """
        posterior = p.model.joint_posterior
        if not isinstance(posterior, DropoutExperts):
            raise ConfigError(
                [f"the loss variational_dropout needs the posterior DropoutExperts, got {type(posterior).__name__}"]
            )
        beta = warmed(self.beta, self.warmup, p.epoch)
        how: How = "each" if self.stratified else "random"
        latents = p.draws(self.samples, how)
        rows = {f"reconstruction/{m}": -latents.mean(v) for m, v in p.reconstruction(latents).items()}
        have = p.given.observed.any(1).to(latents["shared"])  # a row with nothing has no expert
        rows["kl"] = beta * posterior.divergence() * have
        return LossOutput.from_rows(rows | {f"kl/{m}": beta * kl for m, kl in p.private_kl().items()})


def build_posterior(
    config: DropoutPosteriorConfig,
    *,
    modalities: Sequence[ModalitySpec],
    latent_dim: int,
    private_dims: Mapping[str, int],
) -> DropoutExperts:
    """The posterior."""
    return DropoutExperts([m.name for m in modalities], latent_dim)


def build_loss(
    config: DropoutLossConfig,
    *,
    modalities: Sequence[ModalitySpec],
    latent_dim: int,
    private_dims: Mapping[str, int],
) -> Loss:
    """The loss."""
    return DropoutLoss(beta=config.beta, warmup=config.warmup, samples=config.samples, stratified=config.stratified)
