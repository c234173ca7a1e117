"""What a loss sees of a batch: each quantity computed once, on first use."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor

from mvcore.data.batch import Batch
from mvcore.data.padded import PaddedBatch
from mvcore.distributions.latents import How, Latents
from mvcore.inference import estimators
from mvcore.inference.encodings import Encodings

if TYPE_CHECKING:
    from mvcore.distributions.diagonal import Diagonal
    from mvcore.distributions.joint import JointDistribution
    from mvcore.models.multimodal import MultimodalVAE


@final
class Pass:
    """One batch on its way through a ``MultimodalVAE``.

    Args:
        model: The model.
        batch: The rows; all that they have is scored.
        epoch: Epochs trained so far; infinite after every warm-up.
        given: The view of the same rows that the posterior is conditioned on; all that they have, where None.
    """

    def __init__(
        self, model: MultimodalVAE, batch: Batch, epoch: float = math.inf, *, given: Batch | None = None
    ) -> None:
        self.model, self.batch, self.epoch = model, batch, epoch
        self.given = batch if given is None else given
        self._draws: dict[tuple[int, How], Latents] = {}

    @cached_property
    def encodings(self) -> Encodings:
        """The encoded modalities of what is given."""
        return self.model.encode_modalities(self.given)

    @cached_property
    def posterior(self) -> JointDistribution:
        """The joint posterior of the shared and the private latents."""
        return self.model.posterior(self.encodings)

    @cached_property
    def prior(self) -> JointDistribution:
        """The prior, over the same rows."""
        return self.model.prior(self.encodings)

    @property
    def modality_weights(self) -> Mapping[str, float]:
        """The weight of each modality's log-likelihood in the loss."""
        return self.model.modality_weights

    def draws(self, K: int = 1, how: How = "random") -> Latents:
        """Draws from the posterior, the same ones for every loss that asks alike."""
        if (K, how) not in self._draws:
            self._draws[K, how] = self.posterior.draw(K, how)
        return self._draws[K, how]

    def log_likelihoods(self, latents: Latents) -> dict[str, Tensor]:
        """Log p(x_m | latents) ``(K, N)`` for each modality, without its weight; 0 where the row does not have it."""
        return estimators.log_likelihoods(self.model, self.batch, latents)

    def reconstruction(self, latents: Latents) -> dict[str, Tensor]:
        """``weight · log p(x_m | latents)`` ``(K, N)``."""
        values = self.log_likelihoods(latents)
        return {m: v if self.modality_weights[m] == 1 else self.modality_weights[m] * v for m, v in values.items()}

    def private_kl(self) -> dict[str, Tensor]:
        """KL(q(w_m | x_m) ‖ p(w_m)) of each row ``(B,)``, 0 where m is not given."""
        return self.posterior.private_kl(self.prior)

    def expert(self, name: str) -> Diagonal:
        """q(z | x_m), the shared latent's expert of one modality, in the rows that it is given in, ``(n_m, D)``."""
        encoded = self.encodings.experts[name]
        return self.model.joint_posterior.to_family(encoded.loc, encoded.log_scale)

    def expert_kl(self, name: str) -> Tensor:
        """Σ_c π_c KL(q_c ‖ q_m) from the shared latent's posterior to an expert ``(B,)``, 0 where m is not given."""
        if name in self._expert_kls:
            return self._expert_kls[name]
        q, expert = self.posterior.shared, self.expert(name)
        components, weights = q.components, q.weights
        if len(expert.loc) < len(self.given):
            rows = self.given.rows(name)
            components = components.map(lambda x: x.index_select(1, rows))
            weights = weights.index_select(1, rows)
        kl = components[0].kl(expert) if len(weights) == 1 else (weights * components.kl(expert)).sum(0)
        return self.given.placed(name, kl)

    @cached_property
    def _expert_kls(self) -> dict[str, Tensor]:
        """All of these at once, where every modality has a value for every row, and each row one component."""
        batch, q = self.given, self.posterior.shared
        padded = isinstance(batch, PaddedBatch)
        if q.shape[0] > 1 or not (padded or batch.complete) or not batch.names:
            return {}
        experts = [self.encodings.experts[m] for m in batch.names]
        loc, log_scale = (torch.stack(list(parts)) for parts in zip(*((e.loc, e.log_scale) for e in experts)))  # noqa: B905
        kl = q.components[0].kl(self.model.joint_posterior.to_family(loc, log_scale))
        if isinstance(batch, PaddedBatch) and not batch.complete:
            kl = kl * batch.shares
        return dict(zip(batch.names, kl.unbind(), strict=True))
