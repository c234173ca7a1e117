"""Densities of a CVAE's latent, with the features of the conditions that it is decoded with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor

from mvcore.distributions import DiagonalNormal, How, Latents


@final
@dataclass(frozen=True)
class Conditional:
    """A density of z for each row, p(z|c) or q(z|y,c), beside what the decoder is told of the row's conditions.

    Args:
        density: The density ``(B, D)``.
        conditions: The features of the conditions ``(B, F)``; no latents, but numbers that go the same way.
    """

    density: DiagonalNormal
    conditions: Tensor

    def draw(self, K: int = 1, how: How = "random") -> Latents:
        """Draws ``shared (K, B, D)``, with ``conditions (K, B, F)``, the same in every draw."""
        return self._with(self.density.rsample(K))

    def point(self) -> Latents:
        """The means."""
        return self._with(self.density.loc[None])

    def log_prob(self, latents: Latents) -> Tensor:
        """Log-density in nats of ``shared``, ``(K, N)``."""
        one = latents.rows is None or len(self.density.loc) == 1
        rows = self.density if one else self.density.take(latents.row_index(self.conditions.device))
        return rows.log_prob(latents["shared"])

    def _with(self, z: Tensor) -> Latents:
        K, B = z.shape[:2]
        return Latents({"shared": z, "conditions": self.conditions.expand(K, -1, -1)}, B)
