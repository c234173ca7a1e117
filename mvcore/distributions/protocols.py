"""What every density of latents answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from mvcore.distributions.latents import How, Latents


class LatentDistribution(Protocol):
    """What ``Model.posterior``, ``Model.prior`` and ``Model.proposal`` return.

    A model without a density returns ``Points``, one without a prior ``NoPrior``.
    """

    def draw(self, K: int = 1, how: How = "random") -> Latents:
        """Reparametrised draws from torch's global generator; ``how`` matters for mixtures only."""
        ...

    def log_prob(self, latents: Latents) -> Tensor:
        """Log-density of each draw in nats, ``(K, N)``; latents of absent modalities are left out."""
        ...

    def point(self) -> Latents:
        """The means, K = 1 and N = B; without a closed form, a documented estimate."""
        ...
