"""Densities over the shared and the private latents together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from torch import Tensor

from mvcore.data.batch import Batch
from mvcore.distributions.diagonal import Diagonal
from mvcore.distributions.latents import How, Latents
from mvcore.distributions.mixture import Mixture


@final
@dataclass(frozen=True)
class JointDistribution:
    """A density over the shared latent and, independent of it, the private ones of the modalities.

    Args:
        shared: The density of the shared latent.
        private: That of each private one, ``(B, D_m)`` or ``(1, D_m)``; the prior's in rows without the modality.
        batch: The rows; a private latent of an absent modality is drawn, but has no part in ``log_prob``.
    """

    shared: Mixture
    private: Mapping[str, Diagonal]
    batch: Batch | None = None

    def draw(self, K: int = 1, how: How = "random") -> Latents:
        """Draws ``shared`` and ``private/<modality>``."""
        latents = self.shared.draw(K, how)
        K = latents.K
        drawn = {}
        for name, density in self.private.items():
            rows = density.expand(latents.size)
            drawn[f"private/{name}"] = rows.map(latents.per_row).rsample(K)
        return latents.with_values(drawn)

    def log_prob(self, latents: Latents) -> Tensor:
        """Log-density in nats ``(K, N)``, without the private latents of absent modalities."""
        total = self.shared.log_prob(latents)
        for name in self.private:
            total = total + self.private_log_prob(name, latents)
        return total

    def private_log_prob(self, name: str, latents: Latents) -> Tensor:
        """Log-density ``(K, N)`` of one private latent; 0 in rows without the modality."""
        density, z = self.private[name], latents[f"private/{name}"]
        if latents.rows is not None and len(density.loc) > 1:
            density = density.map(latents.per_row)
        have = None if self.batch is None else self.batch.mask(name)
        scored = density.log_prob(z)
        return scored if have is None else scored.where(latents.per_row(have), 0)

    def private_kl(self, prior: JointDistribution) -> dict[str, Tensor]:
        """KL of each private density from the prior's ``(B,)``, 0 in rows without the modality."""
        masks = {m: None if self.batch is None else self.batch.mask(m) for m in self.private}
        pairs = {m: q.kl(prior.private[m]) for m, q in self.private.items()}
        return {m: kl if (have := masks[m]) is None else kl.where(have, 0) for m, kl in pairs.items()}

    def detach(self) -> JointDistribution:
        """The same density, its parameters cut from the graph."""
        return JointDistribution(self.shared.detach(), {m: q.detach() for m, q in self.private.items()}, self.batch)

    def point(self) -> Latents:
        """The means."""
        shared = self.shared.mean()[None]
        private = {f"private/{m}": q.loc.expand(shared.shape[1], -1)[None] for m, q in self.private.items()}
        return Latents({"shared": shared, **private}, shared.shape[1])

    def stddev(self) -> Latents:
        """The standard deviations, in the form of ``point``."""
        shared = self.shared.stddev()[None]
        private = {f"private/{m}": q.stddev.expand(shared.shape[1], -1)[None] for m, q in self.private.items()}
        return Latents({"shared": shared, **private}, shared.shape[1])
