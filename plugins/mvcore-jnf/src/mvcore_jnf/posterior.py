"""The posterior of each row, by what it has, and the mixture of flows that importance sampling proposes from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, final

import torch
from torch import Tensor

from mvcore.distributions import DiagonalNormal, How, Latents
from mvcore.errors import DataError
from mvcore_jnf import HMCConfig
from mvcore_jnf.hmc import Chains, sample

#: Latents whose densities are taken at once: the activations of some thousand rows stay in cache.
BLOCK = 4096


class Density(Protocol):
    """A normalised density for each of n rows: ``DiagonalNormal`` or ``FlowDensity``."""

    def take(self, index: Tensor) -> Density:
        """The densities of some rows."""
        ...

    def detach(self) -> Density:
        """The same densities, cut from the graph."""
        ...

    def rsample(self, K: int) -> Tensor:
        """K draws ``(K, n, D)``."""
        ...

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density ``(K, n)`` of ``z (K, n, D)``."""
        ...


@final
@dataclass(frozen=True)
class Component:
    """A component of a mixture, which only some rows have."""

    density: Density
    rows: Tensor
    """The row of each of its densities ``(n,)``, ascending, on the host."""


@final
@dataclass(frozen=True)
class RowMixture:
    """For each row the mixture, with equal weights, of the components that it has.

    Args:
        components: The components; every row has at least one.
        size: Number of rows B.
        like: A tensor of the latents' dtype and device whose last dimension is D.
    """

    components: Sequence[Component]
    size: int
    like: Tensor

    @cached_property
    def positions(self) -> Tensor:
        """Where each row stands in each component ``(C, B)``, −1 where it does not, on the host."""
        table = torch.full((len(self.components), self.size), -1)
        for c, component in enumerate(self.components):
            table[c, component.rows] = torch.arange(len(component.rows))
        return table

    @cached_property
    def counts(self) -> Tensor:
        """Number of components of each row ``(B,)``, on the host."""
        return (self.positions >= 0).sum(0)

    def select(self, rows: Tensor) -> RowMixture:
        """The mixtures of some rows ``(R,)``, ascending, on the host."""
        chosen = []
        for component, position in zip(self.components, self.positions[:, rows], strict=True):
            inside = (position >= 0).nonzero().squeeze(1)
            if len(inside):
                index = position[inside].to(self.like.device)
                chosen.append(Component(component.density.take(index), inside))
        return RowMixture(chosen, len(rows), self.like)

    def nth(self, n: Tensor) -> Tensor:
        """The n-th component of each row, from 0, for ``n (K, B)`` below the row's count; on the host."""
        have = self.positions >= 0
        found = (have.cumsum(0) - 1)[:, None] == n
        return (found & have[:, None]).int().argmax(0)

    def choose(self, component: Tensor) -> Tensor:
        """One draw ``(K, B, D)`` of each chosen component ``(K, B)``."""
        z = self.like.new_empty(*component.shape, self.like.shape[-1])
        parts, places = [], []
        for c, part in enumerate(self.components):
            k, b = (component == c).nonzero(as_tuple=True)
            parts.append(part.density.take(self.positions[c, b].to(z.device)).rsample(1)[0])
            places.append(k * self.size + b)
        order = torch.cat(places).argsort().to(z.device)
        return torch.cat(parts).index_select(0, order).view(z.shape)

    def draw(self, K: int = 1, how: How = "random") -> Latents:
        """Draws ``shared``; see ``How``."""
        if how == "random":
            component = self.nth((torch.rand(K, self.size) * self.counts).long())
            return Latents({"shared": self.choose(component)}, self.size, component=component.to(self.like.device))
        repeats = torch.full_like(self.counts, K) if how == "each" else (K + self.counts - 1) // self.counts
        if not self.size or int(repeats.min()) == int(repeats.max()):
            return self._packed(K if not self.size else int(repeats[0]), None)
        return self._packed(1, repeats)

    def point(self) -> Latents:
        """The means, estimated from 32 draws of each component; that of a normal is exact."""
        latents = self.draw(32, "each")
        assert latents.log_weight is not None
        means = latents["shared"].mean(0)
        exact = [(i, c.density.loc) for i, c in enumerate(self.components) if isinstance(c.density, DiagonalNormal)]
        for i, loc in exact:
            assert latents.component is not None
            means = means.index_copy(0, (latents.component[0] == i).nonzero().squeeze(1), loc)
        total = means.new_zeros(self.size, means.shape[-1])
        shared = total.index_add(0, latents.row_index(means.device), means * latents.log_weight.exp()[:, None])
        return Latents({"shared": shared[None]}, self.size)

    def log_prob(self, latents: Latents) -> Tensor:
        """Log-density in nats ``(K, N)`` of the whole mixture of each pair's row."""
        z = latents["shared"]
        rows = torch.arange(self.size) if latents.rows is None else latents.rows
        table = z.new_full((len(self.components), *z.shape[:2]), -torch.inf)
        for c, values, pairs in self.each(z, rows):
            table[c].index_copy_(1, pairs, values)
        return table.logsumexp(0) - self.counts[rows].to(z).log()

    def each(self, z: Tensor, rows: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        """For each component its index, ``log q_c (K, n)`` and the pairs ``(n,)`` whose row has it.

        Args:
            z: Latents ``(K, N, D)``.
            rows: The row of each pair ``(N,)``, on the host.
        """
        for c, component in enumerate(self.components):
            position = self.positions[c, rows]
            pairs = (position >= 0).nonzero().squeeze(1)
            density = component.density.take(position[pairs].to(z.device))
            pairs = pairs.to(z.device)
            yield c, _blockwise(density, z.index_select(1, pairs)), pairs

    def _packed(self, K: int, repeats: Tensor | None) -> Latents:
        """K draws of each component of each row; each listed as often as ``repeats (B,)`` says."""
        parts, rows, component, shares = [], [], [], []
        for c, part in enumerate(self.components):
            times = torch.ones_like(part.rows) if repeats is None else repeats[part.rows]
            index = torch.arange(len(part.rows)).repeat_interleave(times)
            parts.append(part.density.take(index.to(self.like.device)).rsample(K))
            rows.append(part.rows[index])
            component.append(torch.full_like(index, c))
            shares.append(-(self.counts[rows[-1]] * times[index]).to(torch.float64).log())
        weight = torch.cat(shares).to(self.like)
        owner = torch.cat(component)[None].to(self.like.device)
        values = {"shared": torch.cat(parts, 1)}
        return Latents(values, self.size, rows=torch.cat(rows), component=owner, log_weight=weight)


@final
class SubsetPosterior:
    r"""The posterior of each row given what it has.

    A row with all modalities has the joint encoder's normal, one with a single modality that modality's flow, one
    with nothing the prior. A row with any other S has :math:`\prod_{m \in S} q_m(z) / p(z)^{|S| - 1}`, known up to a
    constant, which Hamiltonian Monte Carlo draws from. **Where flows are wider than the prior that is no density at
    all**: it grows without bound. It is therefore cut off at a norm of √D + ``settings.reach``; the draws of a row
    whose flows are that wide, as in a model that is hardly trained, pile up there, which ``chains.divergent`` shows.

    Args:
        mixture: Each row's densities: one of the joint, a flow, the prior; or the flows of S.
        settings: The sampler's.
        point_draws: Draws that a mean is estimated from.

    Attributes:
        chains: What the last call of ``draw`` or ``point`` sampled by Monte Carlo, with each row's acceptance rate, in
            the order of ``rows``; None before, or if there are no such rows.
        rows: The rows ``(R,)`` that are sampled by Monte Carlo, on the host.
    """

    def __init__(self, mixture: RowMixture, settings: HMCConfig, point_draws: int) -> None:
        self.mixture, self.settings, self.point_draws = mixture, settings, point_draws
        self.rows = (mixture.counts > 1).nonzero().squeeze(1)
        self.chains: Chains | None = None

    def draw(self, K: int = 1, how: How = "random") -> Latents:
        """K draws ``shared (K, B, D)`` of each row; those of Monte Carlo carry no gradient."""
        direct = (self.mixture.counts == 1).nonzero().squeeze(1)
        if not len(self.rows):
            return Latents({"shared": self._direct(self.mixture, K)}, self.mixture.size)
        self.chains = self.sample(K)
        z = self._join(direct, self._direct(self.mixture.select(direct), K), self.chains.draws)
        return Latents({"shared": z}, self.mixture.size)

    def sample(self, K: int) -> Chains:
        """K draws by Hamiltonian Monte Carlo for each of ``rows``, with how it went."""
        part = self.mixture.select(self.rows)
        chains = torch.arange(min(K, self.settings.chains))
        start = part.choose(part.nth(chains[:, None] % part.counts)).detach()
        radius = math.sqrt(start.shape[-1]) + self.settings.reach
        start = start * (radius / start.norm(dim=-1, keepdim=True)).clamp(max=1)
        return sample(_Product(part, radius), start, _scale(part), K, self.settings)

    def log_prob(self, latents: Latents) -> Tensor:
        """Log-density in nats ``(K, N)``.

        Raises:
            DataError: If some rows have a density known up to a constant only; ``Model.proposal`` is normalised.
        """
        if len(self.rows):
            raise DataError(
                f"The posterior of {len(self.rows)} of {self.mixture.size} rows, which have two or more modalities but "
                "not all, is known up to a constant only. Use model.proposal(encodings), or rows of another kind."
            )
        return self.mixture.log_prob(latents)

    def point(self) -> Latents:
        """The joint encoder's means of complete rows; of others the mean of ``point_draws`` draws."""
        if all(isinstance(c.density, DiagonalNormal) for c in self.mixture.components):
            return self.mixture.point()
        shared = self.draw(self.point_draws)["shared"].mean(0)
        for component in self.mixture.components:
            if isinstance(component.density, DiagonalNormal):
                rows = component.rows.to(shared.device)
                shared = shared.index_copy(0, rows, component.density.loc)
        return Latents({"shared": shared[None]}, self.mixture.size)

    def _direct(self, mixture: RowMixture, K: int) -> Tensor:
        """K draws of rows that have one component each."""
        if not mixture.components:
            return mixture.like.new_empty(K, 0, mixture.like.shape[-1])
        z = torch.cat([c.density.rsample(K) for c in mixture.components], 1)
        order = torch.cat([c.rows for c in mixture.components]).argsort()
        return z.index_select(1, order.to(z.device))

    def _join(self, direct: Tensor, drawn: Tensor, sampled: Tensor) -> Tensor:
        order = torch.cat([direct, self.rows]).argsort()
        return torch.cat([drawn, sampled], 1).index_select(1, order.to(drawn.device))


class _Product:
    """``Σ_m log q_m(z) − (|S| − 1) log p(z)`` up to a constant, −inf outside a ball; the encoders have run already."""

    def __init__(self, mixture: RowMixture, radius: float) -> None:
        device, self.square = mixture.like.device, radius**2 * (1 + 1e-5)
        self.excess = 0.5 * (mixture.counts - 1).to(mixture.like)
        self.parts = [
            (c.density.detach(), None if len(c.rows) == mixture.size else c.rows.to(device)) for c in mixture.components
        ]

    def __call__(self, z: Tensor) -> Tensor:
        square = (z * z).sum(-1)
        total = self.excess * square
        for density, rows in self.parts:
            if rows is None:
                total = total + density.log_prob(z)
            else:
                total = total.index_add(1, rows, density.log_prob(z.index_select(1, rows)))
        return total.masked_fill(square > self.square, -torch.inf)


def _scale(mixture: RowMixture) -> Tensor:
    """Standard deviations ``(R, D)`` of the product of the encoders' normals over the prior's, at most the prior's."""
    precision = -(mixture.counts - 1).to(mixture.like)[:, None].expand(-1, mixture.like.shape[-1])
    for component in mixture.components:
        base = component.density.base  # type: ignore[attr-defined]
        precision = precision.index_add(0, component.rows.to(mixture.like.device), base.scale.detach() ** -2)
    return precision.clamp(min=1).rsqrt()


def _blockwise(density: Density, z: Tensor) -> Tensor:
    step = max(1, BLOCK // max(1, z.shape[1]))
    return torch.cat([density.log_prob(part) for part in z.split(step)])
