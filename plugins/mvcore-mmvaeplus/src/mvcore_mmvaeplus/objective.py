"""The objective of MMVAE+, which owns the auxiliary priors of the private latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, final

from torch import Tensor, nn

from mvcore.data import ModalitySpec
from mvcore.distributions import JointDistribution, Latents
from mvcore.errors import ConfigError
from mvcore.losses import Loss, LossOutput, Pass, bound, doubly_reparametrised, warmed
from mvcore.plugins import Registry
from mvcore.priors import Prior
from mvcore_mmvaeplus import MMVAEPlusLossConfig

_Pairs = tuple[Tensor, Tensor, Tensor]


@final
class MMVAEPlusLoss(nn.Module):
    r"""The negative bound of each row, :math:`-\frac{1}{|O|} \sum_{m \in O} \log \frac1K \sum_k e^{\ell_{mk}}`.

    Component m draws :math:`u \sim q(u|x_m)` and :math:`w_m \sim q(w_m|x_m)`, and for every other modality n that the
    row has :math:`\tilde w_n \sim r_n`, an auxiliary prior with a learned scale:

    .. math::
        \ell_m = \lambda_m \log p(x_m|u, w_m) + \sum_{n \in O \setminus m} \lambda_n \log p(x_n|u, \tilde w_n)
        + \beta\,(\log p(u) + \log p(w_m) - \log q(u|x_O) - \log q(w_m|x_m))

    with the weights λ of the likelihoods, and q(u|x_O) the whole mixture. The density of r_n is no part of it, so this
    is a bound of log p(x_O) only where r_n is the prior of w_n and λ = β = 1.

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
        if p.model.joint_posterior.subsets != "each":
            raise ConfigError(
                [f"the loss mmvaeplus needs the subsets 'each', the posterior has {p.model.joint_posterior.subsets!r}"]
            )
        pairs = {name: _pairs(p, name) for name in self.auxiliary}
        latents = self._draw(p, pairs)
        if self.estimator == "iwae":
            values = bound(self._log_weights(p, pairs, latents, p.posterior), latents, "looser")
        else:
            log_weights = self._log_weights(p, pairs, latents, p.posterior.detach())
            values = doubly_reparametrised(log_weights, latents, "looser", latents.values.values())
        return LossOutput.from_rows({"bound": -values})

    def _draw(self, p: Pass, pairs: Mapping[str, _Pairs]) -> Latents:
        """Draws u of every component, and each w_m of its modality's own alone, 0 elsewhere."""
        latents = p.posterior.shared.draw(self.samples, "each")
        K, N, _ = latents["shared"].shape
        drawn = {}
        for name, (own, rows, _) in pairs.items():
            w = p.posterior.private[name].take(rows).rsample(K)
            drawn[f"private/{name}"] = w.new_zeros(K, N, w.shape[-1]).index_copy(1, own, w)
        return latents.with_values(drawn)

    def _log_weights(
        self, p: Pass, pairs: Mapping[str, _Pairs], latents: Latents, posterior: JointDistribution
    ) -> Tensor:
        """The log-weight of each draw ``(K, N)``, scored by a posterior; every w̃ is drawn here."""
        divergence = p.prior.shared.log_prob(latents) - posterior.shared.log_prob(latents)
        crossed = {}
        for name, (own, rows, others) in pairs.items():
            key = f"private/{name}"
            w = latents[key].index_select(1, own)
            ratio = p.prior.private[name].log_prob(w) - posterior.private[name].take(rows).log_prob(w)
            divergence = divergence.index_add(1, own, ratio)
            r = self.auxiliary[name]().components[0].expand(len(others))
            crossed[key] = latents[key].index_copy(1, others, r.rsample(latents.K))
        reconstruction = sum(p.reconstruction(latents.with_values(crossed)).values())
        return reconstruction + warmed(self.beta, self.warmup, p.epoch) * divergence


def build(
    config: MMVAEPlusLossConfig,
    *,
    modalities: Sequence[ModalitySpec],
    latent_dim: int,
    private_dims: Mapping[str, int],
) -> Loss:
    """The loss, with an auxiliary prior for each private latent."""
    sizes = {m.name: size for m in modalities if (size := private_dims.get(m.name, 0))}
    auxiliary = {
        m: Registry.installed().build(config.auxiliary, modalities=modalities, latent_dim=size, private_dims={})
        for m, size in sizes.items()
    }
    return MMVAEPlusLoss(
        auxiliary, samples=config.samples, beta=config.beta, warmup=config.warmup, estimator=config.estimator
    )


def _pairs(p: Pass, name: str) -> _Pairs:
    """The pairs of the modality's own component, their rows, and the pairs of other components whose row has it."""
    component, rows = p.posterior.shared.exists.nonzero().unbind(1)  # in the order of the draws, on the host
    own = component == (p.batch.names.index(name) if name in p.batch.names else -1)
    others = p.batch.column(name)[rows] & ~own
    chosen = own.nonzero().squeeze(1), rows[own], others.nonzero().squeeze(1)
    first, second, third = (index.to(p.batch.device, non_blocking=True) for index in chosen)
    return first, second, third
