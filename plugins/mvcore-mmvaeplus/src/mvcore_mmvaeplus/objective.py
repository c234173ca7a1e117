"""The objective of MMVAE+, which owns the auxiliary priors of the private latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor, nn

from mvcore.data import ModalitySpec
from mvcore.distributions import Diagonal, JointDistribution, Latents
from mvcore.errors import ConfigError
from mvcore.losses import Loss, LossOutput, Pass, bound, doubly_reparametrised, warmed
from mvcore.plugins import Registry
from mvcore.priors import Prior
from mvcore_mmvaeplus import MMVAEPlusLossConfig


@final
@dataclass(frozen=True)
class _Pairs:
    """What a modality has to do with the pairs of a component and a row, which are drawn component by component."""

    own: Tensor  # the pairs of its own component
    rows: Tensor  # their rows
    others: Tensor  # the pairs of other components whose row has it
    start: int | None  # of its own pairs, where these and the others are all there are

    def of_rows(self, density: Diagonal) -> Diagonal:
        """A density of every row at those of its own pairs."""
        return density if len(density.loc) == len(self.rows) else density.take(self.rows)

    def laid_out(self, own: Tensor, size: int) -> Tensor:
        """Values ``(K, n, D)`` of its own pairs at all pairs ``(K, N, D)``; 0 elsewhere."""
        return own.new_zeros(len(own), size, own.shape[-1]).index_copy(1, self.own, own)

    def side_by_side(self, own: Tensor, others: Tensor, size: int) -> Tensor:
        """The same with values of the other pairs whose row has the modality."""
        if self.start is not None:
            return torch.cat([others[:, : self.start], own, others[:, self.start :]], 1)
        return self.laid_out(own, size).index_copy(1, self.others, others)


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
        shared = p.posterior.shared.draw(self.samples, "each")
        private = {name: of.of_rows(p.posterior.private[name]).rsample(shared.K) for name, of in pairs.items()}
        if self.estimator == "iwae":
            values = bound(self._log_weights(p, pairs, shared, private, p.posterior), shared, "looser")
        else:  # the gradient through a draw is reweighted pair by pair, so draws are laid out as pairs are
            size = shared["shared"].shape[1]
            laid = {m: of.laid_out(private[m], size) for m, of in pairs.items()}
            private = {m: laid[m].index_select(1, of.own) for m, of in pairs.items()}
            log_weights = self._log_weights(p, pairs, shared, private, p.posterior.detach())
            values = doubly_reparametrised(log_weights, shared, "looser", (shared["shared"], *laid.values()))
        return LossOutput.from_rows({"bound": -values})

    def _log_weights(
        self,
        p: Pass,
        pairs: Mapping[str, _Pairs],
        latents: Latents,
        private: Mapping[str, Tensor],
        posterior: JointDistribution,
    ) -> Tensor:
        """The log-weight of each draw ``(K, N)``, scored by a posterior; every w̃ is drawn here.

        Args:
            p: The rows.
            pairs: For each modality its pairs.
            latents: Draws of u of every component.
            private: For each modality the draws ``(K, n, D_m)`` of w_m of its own component.
            posterior: What scores them.
        """
        divergence = p.prior.shared.log_prob(latents) - posterior.shared.log_prob(latents)
        crossed = {}
        for name, of in pairs.items():
            w = private[name]
            ratio = p.prior.private[name].log_prob(w) - of.of_rows(posterior.private[name]).log_prob(w)
            divergence = divergence.index_add(1, of.own, ratio)
            r = self.auxiliary[name]().components[0].expand(len(of.others))
            crossed[f"private/{name}"] = of.side_by_side(w, r.rsample(latents.K), divergence.shape[1])
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
    """The pairs of a modality."""
    component, rows = p.posterior.shared.pairs()
    own = component == (p.batch.names.index(name) if name in p.batch.names else -1)
    others = p.batch.having(name, rows) & ~own
    chosen = own.nonzero().squeeze(1), rows[own], others.nonzero().squeeze(1)
    every = len(chosen[0]) == len(p.batch) and len(chosen[0]) + len(chosen[2]) == len(own)
    first, second, third = (p.batch.index((name, i), lambda i=i: chosen[i]) for i in range(3))  # type: ignore[misc]
    return _Pairs(first, second, third, int(chosen[0][0]) if every and len(own) else None)
