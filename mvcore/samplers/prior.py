"""The sampler that needs no fit: the model's prior."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, final

from mvcore.distributions.latents import Latents
from mvcore.samplers.base import Sampler
from mvcore.samplers.specs import PriorSamplerConfig

if TYPE_CHECKING:
    from mvcore.data.rows import Rows
    from mvcore.models.base import Model


@final
class PriorSampler(Sampler):
    """Draws latents from the model's prior."""

    def fit(self, model: Model, data: Rows) -> None:
        """Fits nothing, for a prior needs no data.

        Raises:
            NotApplicableError: If the model has no prior.
        """
        model.prior().draw(1)

    def draw(self, model: Model, n: int) -> Latents:
        """N draws, K = n and N = 1."""
        return model.prior().draw(n)


def build(config: PriorSamplerConfig, *, latent_shapes: Mapping[str, tuple[int, ...]]) -> PriorSampler:
    """Draws from the model's prior."""
    return PriorSampler(config)
