"""The base of samplers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from mvcore.data.rows import Rows
    from mvcore.distributions.latents import Latents
    from mvcore.models.base import Model
    from mvcore.plugins.spec import SamplerConfig


class Sampler(nn.Module, ABC):
    """Draws all latents of a model jointly, without rows to condition on; fitted after training.

    ``mvcore.fit_sampler`` makes it a part of its model, which ``generate`` then draws from, and which is saved with the
    model's weights: what was fitted must be in parameters and buffers.

    Args:
        config: The config that it was built from; None for one built by hand, which can't be saved.
    """

    def __init__(self, config: SamplerConfig | None = None) -> None:
        super().__init__()
        self.config = config

    @abstractmethod
    def fit(self, model: Model, data: Rows) -> None:
        """Fits to the latents of training rows; draws come from torch's global generator."""

    @abstractmethod
    def draw(self, model: Model, n: int) -> Latents:
        """N draws, K = n and N = 1, from torch's global generator.

        Args:
            model: The model that it was fitted to.
            n: How many.
        """
