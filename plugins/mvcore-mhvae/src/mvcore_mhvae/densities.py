"""Densities of a hierarchy of latents, from the deepest level down: its prior, and products of it and of experts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor

from mvcore.data import Batch
from mvcore.distributions import DiagonalNormal, Encoded, How, Latents, full

if TYPE_CHECKING:
    from mvcore_mhvae.model import MHVAE

#: Latents that are worked on at once where no gradient is kept.
BLOCK = 4096

#: What a level is, q(z_l | x_S, z_{l+1}) and p(z_l | z_{l+1}), both ``(K, N, D_l)``.
Level = tuple[DiagonalNormal, DiagonalNormal]


@final
@dataclass(frozen=True)
class Steps:
    """What an encoder makes of n observations: features for each level but the deepest, and an expert of that."""

    features: tuple[Tensor, ...]
    """Of level 1, 2, …, L − 1, each ``(n, …)``."""
    top: Encoded
    """The expert of the deepest latent."""


@final
@dataclass(frozen=True)
class Pairs:
    """What each pair of a row and a subset is inferred from.

    Args:
        steps: What the encoders made of each modality's rows.
        batch: The rows.
        rows: The row of each pair ``(N,)``, on the host; None where pair n is row n.
        members: The modalities of each pair ``(N, M)``, in the order of the batch, bool, on the host.
    """

    steps: Mapping[str, Steps]
    batch: Batch
    rows: Tensor | None
    members: Tensor

    @cached_property
    def where(self) -> dict[str, tuple[Tensor | None, Tensor]]:
        """For each modality the pairs that have it, None for all, and the position of their rows in its features."""
        found = {}
        rows = torch.arange(len(self.members)) if self.rows is None else self.rows
        for i, m in enumerate(self.batch.names):
            pairs = self.members[:, i].nonzero().squeeze(1)
            index = (self.batch.column(m).cumsum(0) - 1)[rows[pairs]].to(self.batch.device, non_blocking=True)
            every = len(pairs) == len(self.members)
            found[m] = (None if every else pairs.to(self.batch.device, non_blocking=True), index)
        return found

    def at(self, rows: Tensor | None) -> Pairs:
        """The same for other pairs, given their rows; this must have a pair for each row."""
        return self if rows is None else Pairs(self.steps, self.batch, rows, self.members[rows])


@final
@dataclass(frozen=True)
class Hierarchy:
    r"""``∏_l q(z_l | x_S, z_{l+1})`` with ``q ∝ p(z_l | z_{l+1}) ∏_{m∈S} q_m(z_l | x_m, z_{l+1})``; S empty: the prior.

    Args:
        model: The model.
        size: Number of rows.
        pairs: What each pair is inferred from; None for the prior.
        log_weight: Log of the share of each pair in its row's expectation ``(N,)``.
    """

    model: MHVAE
    size: int
    pairs: Pairs | None = None
    log_weight: Tensor | None = None

    def draw(self, K: int = 1, how: How = "random") -> Latents:
        """Draws ``level/<l>`` from the deepest down, and ``shared`` of the first level."""
        parts = list(self._draws(K))
        return self._latents({name: torch.cat([part[name] for part in parts]) for name in parts[0]})

    def point(self) -> Latents:
        """Means given the means of the level above: an estimate of the means."""
        return self._latents(self._descend(1, self._count, self.pairs, lambda _, q: q.loc)[0])

    def log_prob(self, latents: Latents) -> Tensor:
        """Log-density in nats ``(K, N)`` of all levels."""
        parts = [latents] if torch.is_grad_enabled() else list(latents.split(BLOCK))
        found = [torch.stack([self._log_prob(part, *each) for each in self.levels(part).items()]) for part in parts]
        return torch.cat(found, 1 if latents.K > 1 else 2).sum(0)

    def levels(self, latents: Latents) -> dict[int, Level]:
        """The densities of each level given the latents above it, by its number."""
        z = latents["shared"]
        pairs = None if self.pairs is None else self.pairs.at(latents.rows)
        return self._descend(len(z), z.shape[1], pairs, lambda level, _: latents[self.model.name_of(level)])[1]

    def traced(self, K: int) -> tuple[Latents, dict[int, Level]]:
        """K draws, and the densities of each level that they come from."""
        noise = self._noise(K)
        values, levels = self._descend(K, self._count, self.pairs, lambda level, q: _moved(q, noise[level]))
        return self._latents(values), levels

    @property
    def _count(self) -> int:
        return self.size if self.pairs is None else len(self.pairs.members)

    def _latents(self, values: Mapping[str, Tensor]) -> Latents:
        rows = None if self.pairs is None else self.pairs.rows
        return Latents(values, self.size, rows=rows, log_weight=self.log_weight)

    def _noise(self, K: int) -> dict[int, Tensor]:
        """Noise of all levels, drawn before any network is called, so that blocks change no draw."""
        unit = {level: self.model.unit(1, 1, level) for level in range(self.model.count, 0, -1)}
        return {level: q.noise(torch.Size((K, self._count, q.loc.shape[-1]))) for level, q in unit.items()}

    def _draws(self, K: int) -> Iterator[dict[str, Tensor]]:
        noise = self._noise(K)
        step = K if torch.is_grad_enabled() else max(1, BLOCK // max(1, self._count))
        for k in range(0, K, step):
            part = {level: values[k : k + step] for level, values in noise.items()}
            take = lambda level, q, part=part: _moved(q, part[level])  # noqa: E731
            yield self._descend(len(part[1]), self._count, self.pairs, take)[0]

    def _log_prob(self, latents: Latents, level: int, densities: Level) -> Tensor:
        return densities[0].log_prob(latents[self.model.name_of(level)])

    def _descend(
        self, K: int, N: int, pairs: Pairs | None, take: Callable[[int, DiagonalNormal], Tensor]
    ) -> tuple[dict[str, Tensor], dict[int, Level]]:
        """The latents ``(K, N, D_l)`` that ``take`` makes of each level's posterior, and the densities."""
        values: dict[str, Tensor] = {}
        levels: dict[int, Level] = {}
        above: Tensor | None = None
        for level in range(self.model.count, 0, -1):
            levels[level] = self._level(level, K, N, above, pairs)
            above = take(level, levels[level][0])
            values[self.model.name_of(level)] = above
        return values, levels

    def _level(self, level: int, K: int, N: int, above: Tensor | None, pairs: Pairs | None) -> Level:
        h = None if above is None else self.model.top_down[level - 1](above.flatten(0, 1))
        p = self.model.unit(K, N, level) if h is None else _normal(self.model.prior_blocks[level - 1](h), K)
        if pairs is None:
            return p, p
        precision = torch.exp(-2 * p.log_scale)
        weighted = precision * p.loc
        for m, (where, index) in pairs.where.items():
            expert = self._expert(level, m, pairs.steps[m], (where, index), h, K)
            own = torch.exp(-2 * expert.log_scale)
            precision, weighted = _added(precision, where, own), _added(weighted, where, own * expert.loc)
        return DiagonalNormal.natural(precision, weighted), p

    def _expert(
        self, level: int, name: str, steps: Steps, at: tuple[Tensor | None, Tensor], h: Tensor | None, K: int
    ) -> DiagonalNormal:
        """One modality's expert of a level ``(K, n, D_l)``, for the n pairs that have it."""
        where, index = at
        if h is None:
            top = DiagonalNormal(full(steps.top.loc), full(steps.top.log_scale)).take(index)
            return top.map(lambda x: x.expand(K, *x.shape))
        features = steps.features[level - 1].index_select(0, index)
        features = features.expand(K, *features.shape).flatten(0, 1)
        if where is not None:
            h = h.unflatten(0, (K, len(h) // K)).index_select(1, where).flatten(0, 1)
        return _normal(self.model.expert_block(level, name)(h, features), K)


def _normal(encoded: Encoded, K: int) -> DiagonalNormal:
    """The normals ``(K, n, D)`` of parameters ``(K · n, D)``."""
    n = len(encoded.loc) // K
    return DiagonalNormal(full(encoded.loc), full(encoded.log_scale)).map(lambda x: x.unflatten(0, (K, n)))


def _moved(q: DiagonalNormal, noise: Tensor) -> Tensor:
    return torch.addcmul(q.loc, q.scale, noise)


def _added(total: Tensor, where: Tensor | None, values: Tensor) -> Tensor:
    return total + values if where is None else total.index_add(1, where, values)
