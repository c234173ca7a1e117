"""Draws of latent variables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, final

import torch
from torch import Tensor

#: How draws meet the components of a mixture. ``random``: K for each row, each from a component drawn anew. ``each``: K
#: from every component that a row has, component by component, as the mixture's ``exists`` lists them. ``spread``: at
#: least K for each row, as many from each of its components.
How = Literal["random", "each", "spread"]


@final
@dataclass(frozen=True)
class Latents:
    """K draws for each of N pairs of a row and a mixture component that exists in it.

    Args:
        values: The draws by name, each ``(K, N, *shape)``: ``shared``, ``private/<modality>``, ``level/3``, …
        size: The number of rows B.
        rows: The row of each pair ``(N,)``, on the host; None where pair n is row n.
        component: The component that each draw comes from, ``(K, N)`` or ``(1, N)``; None where there is but one.
        log_weight: Log of the share ``(N,)`` that a pair has in its row's expectation; the shares of a row sum to 1.
            None: every share is 1.
    """

    values: Mapping[str, Tensor]
    size: int
    rows: Tensor | None = None
    component: Tensor | None = None
    log_weight: Tensor | None = None
    _index: dict[object, Any] = field(default_factory=dict, repr=False, compare=False)

    def __getitem__(self, name: str) -> Tensor:
        return self.values[name]

    @property
    def K(self) -> int:
        """Draws of each pair."""
        return next(iter(self.values.values())).shape[0]

    @property
    def repeats(self) -> int:
        """How many pairs each row has, where the pairs are all rows in order, again and again; 0 where they are not."""
        if self.rows is None:
            return 1
        if "repeats" not in self._index:
            count, left = divmod(len(self.rows), max(1, self.size))
            in_order = count > 0 and not left and torch.equal(self.rows, torch.arange(self.size).repeat(count))
            self._index["repeats"] = count if in_order else 0
        repeats: int = self._index["repeats"]
        return repeats

    def with_values(self, values: Mapping[str, Tensor]) -> Latents:
        """The same pairs, some values added or replaced."""
        return replace(self, values={**self.values, **values})

    def split(self, size: int) -> Iterator[Latents]:
        """Blocks of about ``size`` draws in all: of draws where there are several, else of pairs."""
        K, N = next(iter(self.values.values())).shape[:2]
        if K > 1:
            step = max(1, size // max(1, N))
            for k in range(0, K, step):
                yield replace(self, values={n: v[k : k + step] for n, v in self.values.items()})
            return
        rows = torch.arange(N) if self.rows is None else self.rows
        for n in range(0, N, size) if size < N else [0]:
            part = {name: v[:, n : n + size] for name, v in self.values.items()}
            yield Latents(part, self.size, rows=rows[n : n + size]) if size < N else self

    def take(self, pairs: Tensor | None) -> Mapping[str, Tensor]:
        """The values at some pairs ``(N',)``, all where None."""
        return self.values if pairs is None else {n: v.index_select(1, pairs) for n, v in self.values.items()}

    def rows_at(self, pairs: Tensor | None, device: torch.device) -> Tensor | None:
        """The rows of some pairs, all where None; None where pair n is row n."""
        if self.rows is None:
            return pairs
        index = self.row_index(device)
        return index if pairs is None else index.index_select(0, pairs)

    def mean(self, values: Tensor) -> Tensor:
        """Expectation for each row: ``(K, N)`` to ``(B,)``."""
        average = values.squeeze(0) if len(values) == 1 else values.mean(0)
        if self.log_weight is not None:
            average = average * self.log_weight.exp()
        return self.sum(average[None])

    def sum(self, values: Tensor) -> Tensor:
        """Sum over the draws and pairs of each row: ``(K, N)`` to ``(B,)``."""
        total = values.squeeze(0) if len(values) == 1 else values.sum(0)
        if self.repeats:
            return total if self.repeats == 1 else total.unflatten(0, (self.repeats, self.size)).sum(0)
        return total.new_zeros(self.size).index_add(0, self.row_index(total.device), total)

    def log_mean_exp(self, values: Tensor) -> Tensor:
        """Log of the expectation of exp for each row: ``(K, N)`` to ``(B,)``."""
        average = values.logsumexp(0) - math.log(len(values))
        if self.log_weight is not None:
            average = average + self.log_weight
        if self.repeats == 1:
            return average
        if self.repeats:
            regular: Tensor = average.unflatten(0, (self.repeats, self.size)).logsumexp(0)
            return regular
        index = self.row_index(average.device)
        peak = average.detach().new_full((self.size,), -math.inf).scatter_reduce(0, index, average.detach(), "amax")
        peak = peak.where(peak.isfinite(), 0)
        return peak + self.sum((average - peak[index]).exp()[None]).log()

    def per_row(self, values: Tensor) -> Tensor:
        """What each row has, for each pair: ``(B, …)`` to ``(N, …)``."""
        if self.repeats == 1:
            return values
        if self.repeats:  # the gradient of a copy is a sum; that of a selection has to find its places
            return values.expand(self.repeats, *values.shape).flatten(0, 1)
        return values.index_select(0, self.row_index(values.device))

    def row_index(self, device: torch.device) -> Tensor:
        """The row of each pair ``(N,)`` on a device."""
        if self.rows is None:
            return torch.arange(self.size, device=device)
        if device not in self._index:
            every = self.repeats and device.type != "cpu"  # then no copy from the host
            index = torch.arange(self.size, device=device).repeat(self.repeats) if every else self.rows
            self._index[device] = index.to(device, non_blocking=True)
        known: Tensor = self._index[device]
        return known
