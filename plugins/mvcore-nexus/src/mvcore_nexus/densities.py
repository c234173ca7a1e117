"""The densities of Nexus's latents: its prior, top down, and its posterior, bottom up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor

from mvcore.data import Batch
from mvcore.distributions import DiagonalNormal, How, Latents

if TYPE_CHECKING:
    from mvcore_nexus.model import Nexus

#: What is taken of a density: a draw of each of its vectors, or their means.
Take = Callable[[DiagonalNormal], Tensor]


@final
@dataclass(frozen=True)
class NexusPrior:
    """``p(z_σ) ∏ p(z_m | z_σ)``: the shared latent, and under it each modality's own.

    Args:
        model: The model.
        batch: The rows; None for one row that stands for all, and has every modality.
    """

    model: Nexus
    batch: Batch | None = None

    def draw(self, K: int = 1, how: How = "random") -> Latents:
        """Draws ``shared`` and ``bottom/<modality>``, top down."""
        return self._latents(K, drawn)

    def point(self) -> Latents:
        """The mean 0 of the shared latent and the means of the others given it: an estimate, not their means."""
        return self._latents(1, _mean)

    def log_prob(self, latents: Latents) -> Tensor:
        """Log-density in nats ``(K, N)``, without the bottom latents of absent modalities."""
        total = self.model.unit().log_prob(latents["shared"])
        for m in self.model.bottom_dims if self.batch is None else self.batch.names:
            pairs = None if self.batch is None else self.batch.match(m, latents.rows)[0]
            p = self.model.bottom_given(m, at(latents["shared"], pairs))
            total = added(total, pairs, p.log_prob(at(latents[f"bottom/{m}"], pairs)))
        return total

    def _latents(self, K: int, take: Take) -> Latents:
        rows = 1 if self.batch is None else len(self.batch)
        shared = take(self.model.unit(K, rows))
        bottom = {f"bottom/{m}": take(self.model.bottom_given(m, shared)) for m in self.model.bottom_dims}
        return Latents({"shared": shared, **bottom}, rows)


@final
@dataclass(frozen=True)
class NexusPosterior:
    """``∏_{m ∈ O} q(z_m | x_m) · q(z_σ | {z_m}_O) · ∏_{m ∉ O} p(z_m | z_σ)``; for a row with nothing, the prior.

    Args:
        model: The model.
        bottom: For each modality of the batch ``q(z_m | x_m)``, of the rows that have it ``(n_m, D_m)``.
        batch: The rows.
    """

    model: Nexus
    bottom: Mapping[str, DiagonalNormal]
    batch: Batch

    def draw(self, K: int = 1, how: How = "random") -> Latents:
        """Draws ``bottom/<modality>`` of what a row has, ``shared`` given those, and the others given ``shared``."""
        return self._latents(K, drawn)

    def point(self) -> Latents:
        """Means given the means of the level before, bottom up, then top down: an estimate of the posterior's means."""
        return self._latents(1, _mean)

    def log_prob(self, latents: Latents) -> Tensor:
        """Log-density in nats ``(K, N)``, without the bottom latents of absent modalities.

        Those are drawn from ``p(z_m | z_σ)`` and no observation depends on them: in a weight they would cancel, and
        the prior leaves them out too.
        """
        total = self.model.shared_given(latents, self.batch).log_prob(latents["shared"])
        for m, q in self.bottom.items():
            pairs, index = self.batch.match(m, latents.rows)
            q = q if index is None else q.take(index)
            total = added(total, pairs, q.log_prob(at(latents[f"bottom/{m}"], pairs)))
        return total

    def _latents(self, K: int, take: Take) -> Latents:
        own = {f"bottom/{m}": self._own(m, K, take) for m in self.model.bottom_dims}
        latents = Latents(own, len(self.batch))
        shared = take(self.model.shared_given(latents, self.batch))
        return latents.with_values({"shared": shared, **self._lacking(latents, shared, take)})

    def _own(self, name: str, K: int, take: Take) -> Tensor:
        """The latent of one modality ``(K, B, D_m)``, 0 in rows that lack it."""
        if name not in self.bottom:
            return self.model.unit(K, len(self.batch), size=self.model.bottom_dims[name]).loc
        q = self.bottom[name]
        return spread(take(q.expand(K, len(q.loc))), self.batch.match(name, None)[0], len(self.batch))

    def _lacking(self, latents: Latents, shared: Tensor, take: Take) -> dict[str, Tensor]:
        filled = {}
        for m in self.model.bottom_dims:
            rows = (~self.batch.column(m)).nonzero().squeeze(1).to(shared.device, non_blocking=True)
            if len(rows):
                z = take(self.model.bottom_given(m, shared.index_select(1, rows)))
                filled[f"bottom/{m}"] = latents[f"bottom/{m}"].index_copy(1, rows, z)
        return filled


def drawn(q: DiagonalNormal) -> Tensor:
    """One reparametrised draw of each vector ``(…, D)``."""
    return torch.addcmul(q.loc, q.scale, q.noise(q.loc.shape))


def _mean(q: DiagonalNormal) -> Tensor:
    return q.loc


def at(values: Tensor, pairs: Tensor | None) -> Tensor:
    """The values ``(K, N, …)`` at some pairs, all where None."""
    return values if pairs is None else values.index_select(1, pairs)


def added(total: Tensor, pairs: Tensor | None, values: Tensor) -> Tensor:
    """The total ``(K, N, …)`` with values ``(K, n, …)`` added at some pairs, all where None."""
    return total + values if pairs is None else total.index_add(1, pairs, values)


def spread(values: Tensor, pairs: Tensor | None, size: int) -> Tensor:
    """Values ``(K, n, …)`` at their pairs of ``(K, size, …)``, 0 elsewhere."""
    return values if pairs is None else added(values.new_zeros(len(values), size, *values.shape[2:]), pairs, values)
