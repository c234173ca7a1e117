"""The objective of mmJSD."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import nn

from mvcore.data import ModalitySpec
from mvcore.distributions import DiagonalNormal, How, JointDistribution, Latents, Mixture
from mvcore.errors import ConfigError
from mvcore.losses import Loss, LossOutput, Pass, warmed
from mvcore_mmjsd import MMJSDLossConfig


@final
class MMJSDLoss(nn.Module):
    r"""Reconstruction from the mixture of experts, and the divergence of all experts from a dynamic prior.

    .. math::
        -E_{z \sim \sum_m q_m / |O|} \sum_m r_m \log p(x_m|z)
        + \beta \Big[\sum_{k} \pi_k KL(q_k\|f) + \beta_w \sum_m KL(q(w_m|x_m)\|p)\Big],
        \qquad f \propto \prod_k q_k^{\pi_k}

    k runs over the modalities that a row has and 0, where :math:`q_0 = p` is the prior.

    Args:
        beta: β.
        warmup: Epochs over which β grows linearly from 0.
        beta_private: Weight :math:`\beta_w` of the private latents' divergences.
        prior_weight: Weight w of the prior beside that of each expert, 1.
        reconstruct_prior: Whether z is drawn from the prior too, with probability :math:`\pi_0`.
        samples: Draws of each row, or, stratified, of each component.
        stratified: Whether every component is drawn from.

    References:
        | Multimodal Generative Learning Utilizing Jensen-Shannon-Divergence (Sutter et al., 2020)
        | https://arxiv.org/abs/2006.08242
    """

    def __init__(
        self,
        *,
        beta: float = 1.0,
        warmup: float = 0.0,
        beta_private: float = 1.0,
        prior_weight: float = 1.0,
        reconstruct_prior: bool = False,
        samples: int = 1,
        stratified: bool = False,
    ) -> None:
        super().__init__()
        self.beta, self.warmup, self.beta_private = beta, warmup, beta_private
        self.prior_weight, self.reconstruct_prior = prior_weight, reconstruct_prior
        self.samples, self.stratified = samples, stratified

    def forward(self, p: Pass) -> LossOutput:
        """The loss and its terms, which sum to it, in nats.

        Raises:
            ConfigError: If the posterior's components are not single normal experts.
            NotApplicableError: If the prior has several components.
        """
        posterior = p.model.joint_posterior
        if posterior.subsets != "each" or posterior.family is not DiagonalNormal:
            raise ConfigError(
                [f"the loss mmjsd needs the subsets 'each' of normal experts, the posterior has {posterior.subsets!r} "
                 f"of {posterior.family.__name__}"]
            )  # fmt: skip
        beta, mixture = warmed(self.beta, self.warmup, p.epoch), self._with_prior(p)
        latents = self._draws(p, mixture)
        rows = {f"reconstruction/{m}": -latents.mean(v) for m, v in p.reconstruction(latents).items()}
        names = [*p.given.names, "prior"]
        parts = mixture.weights * mixture.components.kl(_dynamic_prior(mixture))
        rows |= {f"divergence/{k}": beta * part for k, part in zip(names, parts, strict=True)}
        return LossOutput.from_rows(
            rows | {f"kl/{m}": beta * self.beta_private * kl for m, kl in p.private_kl().items()}
        )

    def _with_prior(self, p: Pass) -> Mixture:
        """The experts and, last, the prior, with the weights π ``(M + 1, B)``."""
        q, count = p.posterior.shared, len(p.given.names)
        experts, prior = q.components[:count], p.prior.shared.single
        shape = 1, *experts.loc.shape[1:]
        loc = torch.cat([experts.loc, prior.loc.expand(shape)])
        log_scale = torch.cat([experts.log_scale, prior.log_scale.expand(shape)])
        exists = torch.cat([q.exists[:count], q.exists.new_full((1, shape[1]), self.prior_weight > 0)])
        have = exists.to(loc, non_blocking=True)
        have = torch.cat([have[:-1], self.prior_weight * have[-1:]])
        return Mixture(
            DiagonalNormal(loc, log_scale),
            have / have.sum(0).clamp(min=torch.finfo(loc.dtype).tiny),
            exists,
            dense=q.dense,
        )

    def _draws(self, p: Pass, mixture: Mixture) -> Latents:
        how: How = "each" if self.stratified else "random"
        if not (self.reconstruct_prior and self.prior_weight):
            return p.draws(self.samples, how)
        return JointDistribution(mixture, p.posterior.private, p.posterior.batch).draw(self.samples, how)


def _dynamic_prior(mixture: Mixture) -> DiagonalNormal:
    """The normal ∝ ∏ q_k^π_k of each row ``(B, D)``."""
    shares = mixture.weights[..., None] * torch.exp(-2 * mixture.components.log_scale)
    return DiagonalNormal.natural(shares.sum(0), (shares * mixture.components.loc).sum(0))


def build(
    config: MMJSDLossConfig,
    *,
    modalities: Sequence[ModalitySpec],
    latent_dim: int,
    private_dims: Mapping[str, int],
) -> Loss:
    """The loss."""
    return MMJSDLoss(
        beta=config.beta, warmup=config.warmup, beta_private=config.beta_private, prior_weight=config.prior_weight,
        reconstruct_prior=config.reconstruct_prior, samples=config.samples, stratified=config.stratified,
    )  # fmt: skip
