"""The sampler that every model has: its prior."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, final

from mvcore.data.batch import Batch
from mvcore.distributions.latents import Latents
from mvcore.errors import NotFittedError
from mvcore.samplers.specs import PriorSamplerConfig

if TYPE_CHECKING:
    from mvcore.models.base import Model


@final
class PriorSampler:
    """Draws latents from the model's prior."""

    def __init__(self) -> None:
        self._model: Model | None = None

    def fit(self, model: Model, data: Iterable[Batch]) -> None:
        """Remembers the model; a prior needs no data."""
        self._model = model

    def draw(self, n: int) -> Latents:
        """N draws, K = n and N = 1."""
        if self._model is None:
            raise NotFittedError("The sampler has no model yet; call sampler.fit(model, data) first.")
        return self._model.prior().draw(n)


def build(config: PriorSamplerConfig) -> PriorSampler:
    """Draws from the model's prior."""
    return PriorSampler()
