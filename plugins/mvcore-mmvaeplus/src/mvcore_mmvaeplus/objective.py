"""The objective of MMVAE+, which owns the auxiliary priors of the private latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, final

import torch
from torch import Tensor, nn

from mvcore.build import standard_prior
from mvcore.data.schema import ModalitySpec
from mvcore.distributions.latents import Latents
from mvcore.errors import ConfigError
from mvcore.losses.base import LossOutput, warmed
from mvcore.losses.importance import bound, doubly_reparametrised, separate
from mvcore.models.multimodal import JointDistribution
from mvcore.models.passes import Pass
from mvcore.models.priors import Prior
from mvcore_mmvaeplus import MMVAEPlusLossConfig


@final
class MMVAEPlusLoss(nn.Module):
    r"""The negative bound of what each row has, :math:`-\frac{1}{|O|} \sum_{m \in O} \log \frac1K \sum_k w_{mk}`.

    Component m draws :math:`u \sim q(u|x_m)` and :math:`w_m \sim q(w_m|x_m)`, and for every other modality n that the
    row has :math:`\tilde w_n \sim r_n`, an auxiliary prior with a learned scale:

    .. math::
        \log w_m = r \cdot \log p(x_m|u, w_m) + \sum_{n \in O \setminus m} r \cdot \log p(x_n|u, \tilde w_n)
        + \beta\,(\log p(u) + \log p(w_m) - \log q(u|x_O) - \log q(w_m|x_m))

    with the weights r of the likelihoods, and q(u|x_O) the whole mixture. The density of r_n is no part of it, so this
    is a bound of log p(x_O) only where r_n is the prior of w_n.

    Args:
        auxiliary: For each modality with a private latent its r_n.
        samples: Draws K from each component.
        beta: Weight β.
        warmup: Epochs over which β grows linearly from 0.
        estimator: ``iwae``, or ``dreg`` for the doubly reparametrised gradient of the posterior; for rows with several
            modalities that is biased at K > 1.

    References:
        | MMVAE+: Enhancing the Generative Quality of Multimodal VAEs without Compromises (Palumbo et al., 2023)
        | https://openreview.net/forum?id=sdQGxouELX
    """

    def __init__(
        self,
        auxiliary: Mapping[str, Prior],
        *,
        samples: int = 1,
        beta: float = 1.0,
        warmup: float = 0.0,
        estimator: Literal["iwae", "dreg"] = "iwae",
    ) -> None:
        super().__init__()
        self.auxiliary = nn.ModuleDict(auxiliary)
        self.samples, self.beta, self.warmup, self.estimator = samples, beta, warmup, estimator

    def forward(self, p: Pass) -> LossOutput:
        """The loss; its one term is the negative bound, in nats.

        Raises:
            ConfigError: If the posterior's components are not the single modalities.
        """
        if p.model.joint.subsets != "each":
            raise ConfigError(
                [f"the loss mmvaeplus needs the subsets 'each', the posterior has {p.model.joint.subsets!r}"]
            )
        latents = p.draws(self.samples, "each")
        if self.estimator == "iwae":
            values = bound(self.log_weights(p, latents, p.posterior), latents, "looser")
        else:
            latents = separate(latents)
            log_weights = self.log_weights(p, latents, p.posterior.detach())
            values = doubly_reparametrised(log_weights, latents, "looser", latents.values.values())
        return LossOutput.from_rows({"bound": -values})

    def log_weights(self, p: Pass, latents: Latents, posterior: JointDistribution) -> Tensor:
        """log w of each draw ``(K, N)``, in nats.

        Args:
            p: The batch.
            latents: Draws of the posterior, K from every component; the w̃ are drawn anew.
            posterior: The densities to score them by.
        """
        component, rows = _pairs(posterior)
        divergence = p.prior.shared.log_prob(latents) - posterior.shared.log_prob(latents)
        crossed = {}
        for name, auxiliary in self.auxiliary.items():
            key, w = f"private/{name}", latents[f"private/{name}"]
            own = component == (p.batch.names.index(name) if name in p.batch.names else -1)
            pairs = _positions(own, w.device)
            w_m, q_m = w.index_select(1, pairs), posterior.private[name].take(_to(rows[own], w.device))
            ratio = p.prior.private[name].log_prob(w_m) - q_m.log_prob(w_m)
            divergence = divergence.index_add(1, pairs, ratio)
            others = _positions(p.batch.column(name)[rows] & ~own, w.device)
            r_n = auxiliary().components[0].expand(len(others))
            crossed[key] = w.index_copy(1, others, r_n.rsample(latents.K))
        reconstruction = sum(p.reconstruction(latents.with_values(crossed)).values())
        return reconstruction + warmed(self.beta, self.warmup, p.epoch) * divergence


def build(
    config: MMVAEPlusLossConfig,
    *,
    modalities: Sequence[ModalitySpec],
    latent_dim: int,
    private_dims: Mapping[str, int],
) -> MMVAEPlusLoss:
    """The loss, with an auxiliary prior for each private latent.

    Raises:
        ConfigError: If no modality has a private latent.
    """
    sizes = {m.name: size for m in modalities if (size := private_dims.get(m.name, 0))}
    if not sizes:
        raise ConfigError(["private_dim: the loss mmvaeplus needs private latents; set it to 1 or more"])
    auxiliary = {
        m: standard_prior(config.auxiliary, modalities=modalities, latent_dim=size, private_dims={})
        for m, size in sizes.items()
    }
    return MMVAEPlusLoss(
        auxiliary, samples=config.samples, beta=config.beta, warmup=config.warmup, estimator=config.estimator
    )


def _pairs(posterior: JointDistribution) -> tuple[Tensor, Tensor]:
    """The component and the row of each pair ``(N,)``, on the host, in the order in which ``each`` draws them."""
    component, rows = posterior.shared.exists.nonzero().unbind(1)
    return component, rows


def _positions(chosen: Tensor, device: torch.device) -> Tensor:
    return _to(chosen.nonzero().squeeze(1), device)


def _to(index: Tensor, device: torch.device) -> Tensor:
    return index.to(device, non_blocking=True)
