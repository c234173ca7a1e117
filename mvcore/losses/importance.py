"""Importance-weighted bounds: IWAE, and its doubly reparametrised gradient."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, final

from torch import Tensor, nn

from mvcore.data.schema import ModalitySpec
from mvcore.distributions.latents import Latents
from mvcore.losses.base import Loss, LossOutput, warmed
from mvcore.losses.specs import Bound, DReGConfig, IWAEConfig
from mvcore.validators import check_choice

if TYPE_CHECKING:
    from mvcore.distributions.joint import JointDistribution
    from mvcore.losses.passes import Pass


def bound(log_weights: Tensor, latents: Latents, kind: Bound) -> Tensor:
    r"""The K-sample bound of each row ``(B,)`` from log-weights ``(K, N)``.

    ``looser`` takes the logarithm within each component, :math:`\sum_c \pi_c \log \frac1K \sum_k w_{ck}` (Shi et al.,
    2019); ``tight`` of the whole mixture, :math:`\log \sum_c \pi_c \frac1K \sum_k w_{ck}`.
    """
    if kind == "tight":
        return latents.log_mean_exp(log_weights)
    return latents.mean((log_weights.logsumexp(0) - math.log(len(log_weights)))[None])


def separate(latents: Latents) -> Latents:
    """The same draws as new nodes of the graph, so that a hook on them leaves other losses alone."""
    return latents.with_values({name: v.view_as(v) for name, v in latents.values.items()})


def doubly_reparametrised(log_weights: Tensor, latents: Latents, kind: Bound, drawn: Iterable[Tensor]) -> Tensor:
    r"""The value of ``bound``, with the doubly reparametrised gradient (Tucker et al., 2019).

    The log-weights must come from a posterior whose parameters are detached. The gradient through a draw is multiplied
    by its normalised weight once more. For a mixture it is unbiased only for the ``looser`` bound at K = 1, or where
    the components coincide.

    Args:
        log_weights: Log-weights ``(K, N)``.
        latents: The draws' pairs.
        kind: The bound.
        drawn: The reparametrised draws ``(K, N, D)``, separated from other losses.
    """
    value = bound(log_weights.detach(), latents, kind)
    if kind == "looser":
        normalised = log_weights.detach().softmax(0)
    else:
        shares = 0 if latents.log_weight is None else latents.log_weight
        normalised = (log_weights.detach() + shares - math.log(len(log_weights)) - latents.per_row(value)).exp()
    for z in drawn:
        if z.requires_grad:  # nothing to do under no_grad
            z.register_hook(lambda gradient: normalised[..., None] * gradient)
    surrogate = (normalised * log_weights).sum(0, keepdim=True)
    rows = latents.mean(surrogate) if kind == "looser" else latents.sum(surrogate)
    return value + (rows - rows.detach())


class _ImportanceWeighted(nn.Module):
    """The K-sample bound of what each row has, its divergence weighted by β."""

    def __init__(
        self,
        *,
        samples: int = 10,
        beta: float = 1.0,
        warmup: float = 0.0,
        cycle: float = 0.0,
        bound: Bound = "looser",
    ) -> None:
        super().__init__()
        check_choice("bound", bound, Bound)
        self.samples, self.beta, self.warmup, self.cycle, self.bound = samples, beta, warmup, cycle, bound

    def log_weights(self, p: Pass, latents: Latents, posterior: JointDistribution) -> Tensor:
        """Σ_m r_m log p(x_m | z) + β (log p(z) − log q(z)), ``(K, N)``."""
        beta = warmed(self.beta, self.warmup, p.epoch, self.cycle)
        reconstruction = sum(p.reconstruction(latents).values())
        divergence: Tensor = p.prior.log_prob(latents) - posterior.log_prob(latents)
        return reconstruction + beta * divergence


@final
class IWAE(_ImportanceWeighted):
    """The negative importance-weighted bound; every component of a mixture is drawn from K times.

    Args:
        samples: Draws K from each component.
        beta: Weight β of log p(z) − log q(z).
        warmup: Epochs over which β grows linearly from 0.
        cycle: Epochs after which β begins anew at 0; 0: never.
        bound: ``looser`` or ``tight``, see ``bound``; equal for one component.

    References:
        | Importance Weighted Autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519
        | Variational Mixture-of-Experts Autoencoders (Shi et al., 2019), https://arxiv.org/abs/1911.03393
    """

    def forward(self, p: Pass) -> LossOutput:
        """The loss."""
        latents = p.draws(self.samples, "each")
        values = bound(self.log_weights(p, latents, p.posterior), latents, self.bound)
        return LossOutput.from_rows({"bound": -values})


@final
class DReG(_ImportanceWeighted):
    """IWAE's bound with the doubly reparametrised gradient of the posterior; arguments as for ``IWAE``.

    It reports the bound itself. For a mixture the gradient is biased, but for the ``looser`` bound at K = 1: use
    ``iwae`` where that matters.

    References:
        | Doubly Reparameterized Gradient Estimators for Monte Carlo Objectives (Tucker et al., 2019)
        | https://arxiv.org/abs/1810.04152
    """

    def forward(self, p: Pass) -> LossOutput:
        """The loss."""
        latents = separate(p.draws(self.samples, "each"))
        log_weights = self.log_weights(p, latents, p.posterior.detach())
        values = doubly_reparametrised(log_weights, latents, self.bound, latents.values.values())
        return LossOutput.from_rows({"bound": -values})


def build_iwae(
    config: IWAEConfig, *, modalities: Sequence[ModalitySpec], latent_dim: int, private_dims: Mapping[str, int]
) -> Loss:
    """The importance-weighted bound."""
    return IWAE(samples=config.samples, beta=config.beta, warmup=config.warmup, cycle=config.cycle, bound=config.bound)


def build_dreg(
    config: DReGConfig, *, modalities: Sequence[ModalitySpec], latent_dim: int, private_dims: Mapping[str, int]
) -> Loss:
    """The importance-weighted bound, doubly reparametrised."""
    return DReG(samples=config.samples, beta=config.beta, warmup=config.warmup, cycle=config.cycle, bound=config.bound)
