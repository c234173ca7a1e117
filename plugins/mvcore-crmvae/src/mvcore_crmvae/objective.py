"""The objective of CRMVAE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor, nn

from mvcore.data import ModalitySpec
from mvcore.distributions import Latents
from mvcore.errors import ConfigError
from mvcore.losses import Loss, LossOutput, Pass, warmed
from mvcore_crmvae import CRMVAELossConfig


@final
class CRMVAELoss(nn.Module):
    r"""The coordinated objective of each row, with its posterior :math:`q \propto \prod_{m \in O} q_m`.

    .. math::
        \frac{1}{|O| + 1} \Big[-\sum_m E_q r_m \log p(x_m|z) - \sum_m E_{q_m} r_m \log p(x_m|z)
        + \beta \Big(KL(q\|p) + \sum_m KL(q\|q_m)\Big)\Big]

    It is no bound of log p(x_O). Each modality is encoded once, and decoded once, from the draws of both.

    Args:
        beta: β.
        halved: Whether reconstructions count half, as in public code.
        warmup: Epochs over which β grows linearly from 0.
        samples: Draws of the product, and of each expert.

    References:
        | Mitigating the Limitations of Multimodal VAEs with Coordination-Based Approach (Suzuki & Matsuo)
        | https://openreview.net/forum?id=Rn8u4MYgeNJ
    """

    def __init__(self, *, beta: float = 1.0, halved: bool = False, warmup: float = 0.0, samples: int = 1) -> None:
        super().__init__()
        self.beta, self.halved, self.warmup, self.samples = beta, halved, warmup, samples

    def forward(self, p: Pass) -> LossOutput:
        """The loss and its terms, which sum to it, in nats.

        Raises:
            ConfigError: If the posterior is a mixture.
        """
        if p.model.joint_posterior.subsets != "observed":
            raise ConfigError(
                [f"the loss crmvae needs the subsets 'observed', the posterior has {p.model.joint_posterior.subsets!r}"]
            )
        share = 1 / (p.batch.observed.sum(1) + 1).to(p.draws(self.samples)["shared"])
        weight, beta = 0.5 if self.halved else 1.0, warmed(self.beta, self.warmup, p.epoch)
        rows = {f"reconstruction/{m}": -weight * share * self._scored(p, m) for m in p.batch.names}
        rows["kl"] = beta * share * p.posterior.shared.kl(p.prior.shared)
        rows |= {f"coordination/{m}": beta * share * p.expert_kl(m) for m in p.batch.names}
        return LossOutput.from_rows(rows)

    def _scored(self, p: Pass, name: str) -> Tensor:
        """E_q r_m log p(x_m|z) + E_q_m r_m log p(x_m|z), ``(B,)``; 0 in rows without the modality."""
        own = p.batch.having(name, torch.arange(len(p.batch))).nonzero().squeeze(1)
        z = p.draws(self.samples)["shared"].index_select(1, p.batch.rows(name))
        both = torch.cat([z, p.expert(name).rsample(self.samples)], 1)
        latents = Latents({"shared": both}, len(p.batch), rows=own.repeat(2))
        view = Pass(p.model, p.batch.only([name]), p.epoch)
        return latents.sum(view.reconstruction(latents)[name]) / self.samples


def build(
    config: CRMVAELossConfig,
    *,
    modalities: Sequence[ModalitySpec],
    latent_dim: int,
    private_dims: Mapping[str, int],
) -> Loss:
    """The loss."""
    return CRMVAELoss(beta=config.beta, halved=config.halved, warmup=config.warmup, samples=config.samples)
