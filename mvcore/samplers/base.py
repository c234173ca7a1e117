"""What every sampler answers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mvcore.data.batch import Batch
    from mvcore.distributions.latents import Latents
    from mvcore.models.base import Model


class Sampler(Protocol):
    """Draws latents without rows to condition on, fitted after training on all latents jointly."""

    def fit(self, model: Model, data: Iterable[Batch]) -> None:
        """Fits to the posterior of training data."""
        ...

    def draw(self, n: int) -> Latents:
        """N draws, K = n and N = 1, from torch's global generator."""
        ...
