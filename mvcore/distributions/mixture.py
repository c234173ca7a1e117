"""Mixtures over subsets of modalities, of which each row has those components that its modalities allow."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import final

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mvcore.data.padded import NotCapturableError
from mvcore.distributions.diagonal import Diagonal
from mvcore.distributions.latents import How, Latents
from mvcore.errors import NotApplicableError

#: Values that one block of a mixture's density may hold: 2**22 floats are 16 MiB, about a last-level cache.
BLOCK = 2**22

#: Pairs of a row and a component in a part of a mixture that is not held as a whole.
PART = 2**16


@final
class Mixture:
    """A mixture for each row; the parameters are dense, the draws packed over the pairs that exist.

    Args:
        components: The components ``(C, B, D)``, with safe values where a row has no such component; or, where they are
            too many to hold, what makes some of them, whenever they are asked for.
        weights: Their probabilities ``(C, B)``, 0 where a row has no such component.
        exists: Which component exists in which row ``(C, B)``, on the host. Each row has at least one.
        pick: The components at pairs of a component and a row, both ``(N,)``, where there is a way to get them that
            spares an index into all of them, whose gradient is as large as they are; no rows: each once, in order.
        dense: Whether all C · B pairs are drawn and scored, as of a padded batch: those that do not exist have the
            weight 0, and ``exists`` is on the device.
    """

    def __init__(
        self,
        components: Diagonal | Callable[[slice], Diagonal],
        weights: Tensor,
        exists: Tensor,
        pick: Callable[[Tensor, Tensor | None], Diagonal] | None = None,
        *,
        dense: bool = False,
    ) -> None:
        self._given, self.weights, self.exists, self.pick, self.dense = components, weights, exists, pick, dense

    @cached_property
    def components(self) -> Diagonal:
        """All components ``(C, B, D)``."""
        return self._part(slice(None))

    @property
    def shape(self) -> tuple[int, int]:
        """Number of components C and of rows B."""
        C, B = self.exists.shape
        return C, B

    @property
    def single(self) -> Diagonal:
        """The one component ``(B, D)``.

        Raises:
            NotApplicableError: If there are several.
        """
        if self.shape[0] > 1:
            raise NotApplicableError(
                f"A mixture of {self.shape[0]} components has no divergence in closed form; estimate it from draws, as "
                "log q(z) − log p(z): the loss elbo does with kl='monte_carlo', and iwae always."
            )
        return self.components[0]

    @property
    def one_each(self) -> Diagonal:
        """The one component that each row has ``(B, D)``, of several that exist in different rows.

        Raises:
            NotApplicableError: If a row has several.
        """
        C, B = self.shape
        if C == 1:
            return self.components[0]
        if self.dense:
            raise NotCapturableError("Which component a row has is asked for on the host.")
        if not bool((self.exists.sum(0) == 1).all()):
            raise NotApplicableError(f"A row of this mixture of {C} components has several of them, not one.")
        pairs = self.exists.to(torch.int64).argmax(0) * B + torch.arange(B)
        return self.components.flatten().take(pairs.to(self.weights.device, non_blocking=True))

    @cached_property
    def log_weights(self) -> Tensor:
        """Log-probabilities ``(C, B)``, −inf where a row has no such component."""
        return self.weights.log()

    def detach(self) -> Mixture:
        """The same mixture, its parameters cut from the graph."""
        given = self._given
        cut = given.detach() if isinstance(given, Diagonal) else lambda which: given(which).detach()
        return Mixture(cut, self.weights.detach(), self.exists, dense=self.dense)

    def mean(self) -> Tensor:
        """The mean ``(B, D)``."""
        return self._sum(lambda q, which: torch.einsum("cb,cbd->bd", self.weights[which], q.loc))

    def stddev(self) -> Tensor:
        """The standard deviation ``(B, D)``: that within the components, and that of their means."""
        within, between = self.components.stddev.square(), (self.components.loc - self.mean()).square()
        return torch.einsum("cb,cbd->bd", self.weights, within + between).sqrt()

    def kl(self, prior: Mixture) -> Tensor:
        r"""The convex bound :math:`\sum_c \pi_c KL(q_c \| p)` of the divergence ``(B,)`` from a prior of one component.

        It is exact if C = 1.

        Raises:
            NotApplicableError: If the prior has several components.
        """
        single = prior.single
        if self.shape[0] == 1:  # each row has one
            return self.components[0].kl(single)
        return self._sum(lambda q, which: self._convex(q, which, single))

    def _convex(self, q: Diagonal, which: slice, prior: Diagonal) -> Tensor:
        """The part ``(B,)`` of the convex bound of some components."""
        weights, exists = self.weights[which], self.exists[which]
        if self.dense or bool(exists.all()):
            return (weights * q.kl(prior)).sum(0)
        # of many subsets few exist in a partial row
        pairs = exists.reshape(-1).nonzero().squeeze(1).to(weights.device, non_blocking=True)
        parts = q.flatten().take(pairs).kl(prior)
        shares = weights.reshape(-1)[pairs]
        return parts.new_zeros(self.shape[1]).index_add(0, pairs % self.shape[1], shares * parts)

    def pairs(self) -> tuple[Tensor, Tensor]:
        """The component and the row of each pair ``(N,)`` that is drawn by ``each``, in order, on the host."""
        pairs, B = self._pairs(), max(1, self.shape[1])
        return pairs // B, pairs % B

    def draw(self, K: int = 1, how: How = "random") -> Latents:
        """Draws ``shared (K, N, D)``; see ``How``."""
        C, B = self.shape
        if C == 1:
            return Latents({"shared": self.components[0].rsample(K)}, B)
        return {"random": self._random, "each": self._each, "spread": self._spread}[how](K)

    def log_prob(self, latents: Latents) -> Tensor:
        """Log-density in nats ``(K, N)`` of ``shared`` under the mixture of each pair's row."""
        z = latents["shared"]
        if self.shape[0] == 1:
            alone = self.components[0]
            return (alone if self.shape[1] == 1 else alone.map(latents.per_row)).log_prob(z)
        if self.dense:
            return self._dense_log_prob(latents)
        step = max(1, BLOCK // max(1, z.numel()))
        return torch.cat([self._joint(latents, c, c + step) for c in range(0, self.shape[0], step)]).logsumexp(0)

    def _dense_log_prob(self, latents: Latents) -> Tensor:
        """The same where pairs are all rows, once or several times: no index, whose gradient is a sort."""
        z = latents["shared"].unflatten(1, (latents.repeats, -1))
        joint = self.log_weights[:, None, None] + self.components[:, None, None].log_prob(z)
        return joint.logsumexp(0).flatten(1)

    def _joint(self, latents: Latents, start: int, stop: int) -> Tensor:
        """``log π_c + log q_c(z)`` of the components from start to stop: (c, K, N)."""
        index = self._rows(latents)
        components = self._part(slice(start, stop))[:, index]
        return self.log_weights[start:stop][:, index][:, None] + components[:, None].log_prob(latents["shared"])

    def _part(self, which: slice) -> Diagonal:
        """Some components ``(c, B, D)``."""
        return self._given[which] if isinstance(self._given, Diagonal) else self._given(which)

    def _sum(self, value: Callable[[Diagonal, slice], Tensor]) -> Tensor:
        """The sum over parts of the components, each with its place among them.

        Where the components are not held, each part is made again for its gradient.
        """
        if isinstance(self._given, Diagonal):
            return value(self._given, slice(None))

        def part(start: int) -> Tensor:
            which = slice(start, start + step)
            return value(self._part(which), which)

        C, B = self.shape
        step = max(1, PART // max(1, B))
        each = (checkpoint(part, start, use_reentrant=False, preserve_rng_state=False) for start in range(0, C, step))
        total: Tensor = sum(each)
        return total

    def _rows(self, latents: Latents) -> Tensor | slice:
        """Index of each pair's row; a mixture of one row stands for every row."""
        one = latents.rows is None or self.shape[1] == 1
        return slice(None) if one else latents.row_index(self.weights.device)

    def _random(self, K: int) -> Latents:
        B = self.shape[1]
        component = torch.multinomial(self.weights.detach().T, K, replacement=True).T  # (K, B)
        rows = None if K == 1 else torch.arange(B, device=component.device).repeat(K)
        chosen = (self.pick or self._pick)(component.reshape(-1), rows)
        return Latents({"shared": chosen.rsample(1)[0].unflatten(0, (K, B))}, B, component=component)

    def _pick(self, component: Tensor, rows: Tensor | None) -> Diagonal:
        rows = torch.arange(self.shape[1], device=component.device) if rows is None else rows
        return self.components.flatten().take(component * self.shape[1] + rows)

    def _pairs(self) -> Tensor:
        """The pairs that exist, as indices into the flattened (C, B), on the host; of a dense mixture all."""
        if self.dense:
            return torch.arange(self.exists.numel())
        return self.exists.reshape(-1).nonzero().squeeze(1)

    def _each(self, K: int) -> Latents:
        return self._draw_pairs(self._pairs(), K, 1)

    def _spread(self, K: int) -> Latents:
        counts = self.exists.sum(0)
        repeats = (K + counts - 1) // counts  # draws of each component of a row
        if not len(repeats) or int(repeats.min()) == int(repeats.max()):
            return self._draw_pairs(self._pairs(), int(repeats[0]) if len(repeats) else K, 1)
        pairs = self._pairs()
        each = repeats[pairs % self.shape[1]]
        return self._draw_pairs(pairs.repeat_interleave(each), 1, each.repeat_interleave(each))

    def _draw_pairs(self, pairs: Tensor, K: int, repeats: Tensor | int) -> Latents:
        """K draws at each index into the flattened (C, B); a pair listed several times shares its weight."""
        C, B = self.shape
        flat = self.components.flatten()
        if isinstance(repeats, int) and len(pairs) == C * B:  # the pairs are all positions, in order
            owner = torch.arange(C, device=self.weights.device).repeat_interleave(B, output_size=C * B)
            shares = self.log_weights.flatten()
            return Latents({"shared": flat.rsample(K)}, B, rows=pairs % B, component=owner[None], log_weight=shares)
        where = pairs.to(self.weights.device, non_blocking=True)
        chosen = flat.take(where)
        shares = self.log_weights.reshape(-1)[where]
        if not isinstance(repeats, int):
            shares = shares - repeats.to(shares).log()
        z = chosen.rsample(K)
        return Latents({"shared": z}, B, rows=pairs % B, component=(where // B)[None], log_weight=shares)


def share_equally(exists: Tensor, like: Tensor) -> Tensor:
    """Equal weights ``(C, B)`` of the components that a row has, 0 for the others; dtype and device of ``like``."""
    have = exists.to(like, non_blocking=True)
    return have / have.sum(0)
