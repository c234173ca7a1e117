"""The objective of DMVAE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor, nn

from mvcore.data import ModalitySpec
from mvcore.distributions import Latents
from mvcore.errors import ConfigError
from mvcore.losses import Loss, LossOutput, Pass, warmed
from mvcore.validators import check_choice, per_modality
from mvcore_dmvae import DMVAELossConfig, SharedKL


@final
class DMVAELoss(nn.Module):
    r"""The sum of the negative bounds of all that a row has, with its product of experts and with each expert alone.

    .. math::
        \sum_{q \in \{q_O, q_m\}} \Big\{-E_q \sum_{m \in O} r_m \log p(x_m|z, w_m) + \kappa \beta KL(q\|p)
        + \sum_{m \in O} \beta_m KL(q(w_m|x_m)\|p)\Big\}

    One draw of each :math:`w_m \sim q(w_m|x_m)` serves all terms. κ is \|O\| in the official code, which counts the
    shared latent's divergence with each modality; κ = β = β_m = r_m = 1 makes every term a bound of log p(x_O).

    Args:
        shared_kl: ``paper`` for κ = \|O\|, ``elbo`` for κ = 1.
        beta: β.
        beta_private: β_m, by modality; 1 for those left out.
        warmup: Epochs over which all of these weights grow linearly from 0.
        samples: Draws of each posterior.

    Raises:
        ConfigError: If ``shared_kl`` is neither.

    References:
        | Private-Shared Disentangled Multimodal VAE for Learning of Latent Representations (Lee & Pavlovic, 2021)
        | https://arxiv.org/abs/2012.13024
    """

    def __init__(
        self,
        *,
        shared_kl: SharedKL = "paper",
        beta: float = 1.0,
        beta_private: Mapping[str, float] | None = None,
        warmup: float = 0.0,
        samples: int = 1,
    ) -> None:
        super().__init__()
        check_choice("shared_kl", shared_kl, SharedKL)
        self.shared_kl, self.beta, self.beta_private = shared_kl, beta, dict(beta_private or {})
        self.warmup, self.samples = warmup, samples

    def forward(self, p: Pass) -> LossOutput:
        """The loss and its terms, which sum to it, in nats.

        Raises:
            ConfigError: If the posterior is a mixture.
        """
        if p.model.joint_posterior.subsets != "observed":
            raise ConfigError(
                [f"the loss dmvae needs the subsets 'observed', the posterior has {p.model.joint_posterior.subsets!r}"]
            )
        grown, latents = warmed(1.0, self.warmup, p.epoch), self._draw(p)
        count = p.batch.observed.sum(1).to(latents["shared"])
        rows = {f"reconstruction/{m}": -latents.sum(v) / self.samples for m, v in p.reconstruction(latents).items()}
        kappa = count if self.shared_kl == "paper" else 1.0
        rows["kl"] = grown * self.beta * kappa * self._shared_kl(p)
        weights = {m: grown * self.beta_private.get(m, 1.0) for m in p.batch.names}
        rows |= {f"kl/{m}": weights[m] * (count + 1) * kl for m, kl in p.private_kl().items() if m in weights}
        return LossOutput.from_rows(rows)

    def _draw(self, p: Pass) -> Latents:
        """Draws of each row's product, then of each expert in the rows that have it, beside the row's private ones."""
        drawn, names = p.draws(self.samples), p.batch.names
        shared = torch.cat([drawn["shared"], *(p.expert(m).rsample(self.samples) for m in names)], 1)
        own = [p.batch.column(m).nonzero().squeeze(1) for m in names]
        rows = torch.cat([torch.arange(len(p.batch)), *own])
        where = rows.to(shared.device, non_blocking=True)
        private = {n: v.index_select(1, where) for n, v in drawn.values.items() if n != "shared"}
        return Latents({"shared": shared, **private}, len(p.batch), rows=rows)

    def _shared_kl(self, p: Pass) -> Tensor:
        """KL(q_O‖p) + Σ_m KL(q_m‖p), ``(B,)``."""
        total = p.posterior.shared.kl(p.prior.shared)
        for m in p.batch.names:
            total = total.index_add(0, p.batch.rows(m), p.expert(m).kl(p.prior.shared.components[0]))
        return total


def build(
    config: DMVAELossConfig,
    *,
    modalities: Sequence[ModalitySpec],
    latent_dim: int,
    private_dims: Mapping[str, int],
) -> Loss:
    """The loss.

    Raises:
        ConfigError: If ``beta_private`` names a modality that there is not.
    """
    names = [m.name for m in modalities]
    return DMVAELoss(
        shared_kl=config.shared_kl,
        beta=config.beta,
        beta_private=per_modality("loss.beta_private", config.beta_private, names, 1.0),
        warmup=config.warmup,
        samples=config.samples,
    )
