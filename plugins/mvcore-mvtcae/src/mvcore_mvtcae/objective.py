"""The objective of MVTCAE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, final

from torch import nn

from mvcore.data import ModalitySpec
from mvcore.errors import ConfigError
from mvcore.losses import Loss, LossOutput, Pass, warmed
from mvcore_mvtcae import MVTCAELossConfig


@final
class MVTCAELoss(nn.Module):
    r"""The total correlation objective of each row, with its posterior :math:`q \propto \prod_{m \in O} q_m`.

    .. math::
        -\frac{|O| - \alpha}{|O|} E_q \sum_m r_m \log p(x_m|z)
        + \beta \Big[(1 - \alpha) KL(q\|p) + \frac{\alpha}{|O|} \sum_m KL(q\|q_m)\Big]

    It is no bound of log p(x_O). Private latents, which the paper does not have, enter by their divergence from the
    prior, with the weight of KL(q‖p).

    Args:
        alpha: α, or ``modalities`` for \|O\| / (\|O\| + 1).
        beta: β.
        warmup: Epochs over which β grows linearly from 0.
        samples: Draws of each row's posterior.

    References:
        | Multi-View Representation Learning via Total Correlation Objective (Hwang et al., 2021)
        | https://openreview.net/forum?id=5Ev8NJxhBF
    """

    def __init__(
        self,
        *,
        alpha: float | Literal["modalities"] = "modalities",
        beta: float = 1.0,
        warmup: float = 0.0,
        samples: int = 1,
    ) -> None:
        super().__init__()
        self.alpha, self.beta, self.warmup, self.samples = alpha, beta, warmup, samples

    def forward(self, p: Pass) -> LossOutput:
        """The loss and its terms, which sum to it, in nats.

        Raises:
            ConfigError: If the posterior is a mixture.
        """
        if p.model.joint_posterior.subsets != "observed":
            raise ConfigError(
                [f"the loss mvtcae needs the subsets 'observed', the posterior has {p.model.joint_posterior.subsets!r}"]
            )
        beta, latents = warmed(self.beta, self.warmup, p.epoch), p.draws(self.samples)
        scored = p.reconstruction(latents)
        count = p.batch.observed.sum(1).to(latents["shared"])
        alpha = count / (count + 1) if self.alpha == "modalities" else self.alpha
        share = alpha / count.clamp(min=1)  # a row that a view leaves with nothing has a loss of 0
        rows = {f"reconstruction/{m}": (share - 1) * latents.mean(v) for m, v in scored.items()}
        rows["kl"] = beta * (1 - alpha) * p.posterior.shared.kl(p.prior.shared)
        rows |= {f"kl/{m}": beta * (1 - alpha) * kl for m, kl in p.private_kl().items()}
        rows |= {f"correlation/{m}": beta * share * p.expert_kl(m) for m in p.batch.names}
        return LossOutput.from_rows(rows)


def build(
    config: MVTCAELossConfig,
    *,
    modalities: Sequence[ModalitySpec],
    latent_dim: int,
    private_dims: Mapping[str, int],
) -> Loss:
    """The loss."""
    return MVTCAELoss(alpha=config.alpha, beta=config.beta, warmup=config.warmup, samples=config.samples)
