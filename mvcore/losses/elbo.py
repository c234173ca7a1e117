"""The evidence lower bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, final

from torch import Tensor, nn

from mvcore.data.schema import ModalitySpec
from mvcore.distributions.latents import Latents
from mvcore.losses.base import Loss, LossOutput, warmed
from mvcore.losses.specs import Divergence, ELBOConfig
from mvcore.validators import check_choice

if TYPE_CHECKING:
    from mvcore.losses.passes import Pass


@final
class ELBO(nn.Module):
    r"""The negative ELBO of what each row has.

    .. math:: -E_q \sum_m r_m \log p(x_m|z) + \beta\,(\beta_s\,KL(q(z|x_O)\|p) + \beta_w \sum_m KL(q(w_m|x_m)\|p))

    Args:
        beta: Weight β of all divergences.
        warmup: Epochs over which β grows linearly from 0.
        cycle: Epochs after which β begins anew at 0; 0: never.
        beta_shared: Weight of the shared latent's divergence.
        beta_private: Weight of the private latents' divergences.
        kl: How a mixture's divergence is taken: ``convex``, the bound Σ π_c KL(q_c‖p) in closed form, or
            ``monte_carlo``, log q(z) − log p(z) at the draws, the tighter objective. Equal for one component.
        samples: Draws K for each row, or for each component.
        stratified: Whether every component of a mixture is drawn from, instead of one drawn at random for each row.
    """

    def __init__(
        self,
        *,
        beta: float = 1.0,
        warmup: float = 0.0,
        cycle: float = 0.0,
        beta_shared: float = 1.0,
        beta_private: float = 1.0,
        kl: Divergence = "convex",
        samples: int = 1,
        stratified: bool = False,
    ) -> None:
        super().__init__()
        check_choice("kl", kl, Divergence)
        self.beta, self.warmup, self.cycle, self.kl = beta, warmup, cycle, kl
        self.beta_shared, self.beta_private = beta_shared, beta_private
        self.samples, self.stratified = samples, stratified

    def forward(self, p: Pass) -> LossOutput:
        """The loss and its terms, which sum to it."""
        beta = warmed(self.beta, self.warmup, p.epoch, self.cycle)
        latents = p.draws(self.samples, "each" if self.stratified else "random")
        rows = {f"reconstruction/{m}": -latents.mean(v) for m, v in p.reconstruction(latents).items()}
        rows["kl"] = beta * self.beta_shared * self._divergence(p, latents)
        rows |= {f"kl/{m}": beta * self.beta_private * kl for m, kl in p.private_kl().items()}
        return LossOutput.from_rows(rows)

    def _divergence(self, p: Pass, latents: Latents) -> Tensor:
        q, prior = p.posterior.shared, p.prior.shared
        if self.kl == "convex":
            return q.kl(prior)
        return latents.mean(q.log_prob(latents) - prior.log_prob(latents))


def build(
    config: ELBOConfig, *, modalities: Sequence[ModalitySpec], latent_dim: int, private_dims: Mapping[str, int]
) -> Loss:
    """The evidence lower bound."""
    return ELBO(
        beta=config.beta, warmup=config.warmup, cycle=config.cycle, beta_shared=config.beta_shared,
        beta_private=config.beta_private, kl=config.kl, samples=config.samples, stratified=config.stratified,
    )  # fmt: skip
