"""A batch of partially observed rows. It holds what is observed and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mvcore import arguments
from mvcore.arguments import shown
from mvcore.data.checks import check_packed, check_values
from mvcore.data.context import covariates, row_factors
from mvcore.errors import DataError


class Batch:
    """Rows with their observed modalities, packed: ``x[m]`` has one entry for each row that has m.

    What is absent does not exist here, so nothing can read it. All indices are made on the host, so no kernel
    of an accelerator waits for one. A batch is never written to; views share its tensors.

    Args:
        x: For each modality the observed values ``(n_m, *shape)``, in the order of the rows.
        observed: Which row has which modality ``(B, M)``, bool, on the host, columns in the order of ``x``.
        cells: Which values inside an observation are known, bool of the shape of ``x[m]``; all, where not given.
        context: Covariates, which every row has ``(B, *shape)``: floats, or integers for categories.
        size_factors: For some modalities of counts what each row's mean is multiplied by ``(B,)``. They stay in views
            without the modality, which may be asked to impute it.

    Raises:
        DataError: If a value is no tensor, or what is observed does not fit the packed values.
    """

    __slots__ = ("_index", "cells", "context", "device", "names", "observed", "size_factors", "x")

    def __init__(
        self,
        x: Mapping[str, Tensor],
        observed: Tensor,
        cells: Mapping[str, Tensor] | None = None,
        *,
        context: Mapping[str, Tensor] | None = None,
        size_factors: Mapping[str, Tensor] | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.x, self.observed, self.cells = dict(x), observed, dict(cells or {})
        check_packed(self.x, observed, self.cells)
        self.context, self.size_factors = dict(context or {}), dict(size_factors or {})
        self.names = tuple(self.x)
        #: Where the values are; a view may have none of its own to tell.
        self.device = device or next((v.device for v in self.x.values()), torch.device("cpu"))
        self._index: dict[object, Tensor] = {}

    @classmethod
    def from_dense(
        cls,
        x: Mapping[str, Tensor],
        masks: Mapping[str, Tensor] | None = None,
        *,
        context: Mapping[str, Tensor] | None = None,
        size_factors: Mapping[str, Tensor] | None = None,
    ) -> Batch:
        """Packs ``x[m] (B, *shape)``; rows where ``masks[m] (B,)`` is False are left out, whatever they hold.

        Raises:
            DataError: Where a mask is not bool of shape (B,), sizes differ, an observed value is NaN or a row has
                nothing, or the context does not fit the rows.
        """
        size = len(next(iter(x.values()))) if x else 0
        for name in set(masks or {}) - set(x):
            raise DataError(f"There is a mask for {name!r}, which is no modality; the batch has {', '.join(x)}.")
        for name, values in x.items():
            if len(values) != size:
                raise DataError(f"Modality {name!r} has {len(values)} rows, the first modality has {size}.")
        columns = [_row_mask(name, (masks or {}).get(name), size) for name in x]
        observed = torch.stack(columns, dim=1) if columns else torch.ones(size, 0, dtype=torch.bool)
        if empty := int((~observed.any(dim=1)).sum()):
            raise DataError(f"{empty} of {size} rows have no modality at all; leave them out.")
        packed = {name: v[observed[:, i].to(v.device)] for i, (name, v) in enumerate(x.items())}
        for (name, values), column in zip(packed.items(), columns, strict=True):
            if values.is_floating_point():
                check_values(name, values, None, column)
        factors = row_factors(size_factors, dict(zip(x, columns, strict=True)), size)
        return cls(packed, observed, context=covariates(context, size), size_factors=factors)

    def __len__(self) -> int:
        return len(self.observed)

    def __repr__(self) -> str:
        parts = ", ".join(f"{m}: {len(self.x[m])}" for m in self.names)
        return f"Batch({len(self)} rows; {parts})"

    @property
    def complete(self) -> bool:
        """Whether every row has every modality of the batch."""
        return sum(map(len, self.x.values())) == self.observed.numel()

    def column(self, name: str) -> Tensor:
        """Which rows have the modality ``(B,)``, on the host; none, if the batch does not hold it."""
        if name in self.x:
            return self.observed[:, self.names.index(name)]
        return torch.zeros(len(self), dtype=torch.bool)

    def mask(self, name: str) -> Tensor | None:
        """Which rows have the modality ``(B,)``, on the batch's device; None where all have it."""
        have = self.column(name)
        return None if bool(have.all()) else _to(have, self.device)

    def values(self, name: str) -> tuple[Tensor, Tensor | None]:
        """The observations of a modality ``(n_m, *shape)``, and which of their cells are known; None where all are."""
        return self.x[name], self.cells.get(name)

    def rows(self, name: str) -> Tensor:
        """The rows ``(n_m,)`` that have the modality, on the batch's device."""
        return self._cached(name, lambda: self.column(name).nonzero().squeeze(1))

    def dense(self, packed: Sequence[Tensor], fill: float) -> Tensor:
        """Spreads one ``(n_m, D)`` for each modality into ``(M, B, D)``, ``fill`` where a row lacks the modality."""
        if self.complete:
            return torch.stack(list(packed))
        index = self._cached(None, lambda: self.observed.T.reshape(-1).nonzero().squeeze(1))
        values = torch.cat(list(packed))
        out = values.new_full((self.observed.numel(), *values.shape[1:]), fill)
        spread: Tensor = out.index_copy(0, index, values).unflatten(0, (len(self.names), len(self)))
        return spread

    def placed(self, name: str, values: Tensor, fill: float | Tensor = 0.0) -> Tensor:
        """A modality's ``(n_m, …)`` at its rows: ``(B, …)``, ``fill`` where a row lacks the modality."""
        rows = self.rows(name)
        if len(rows) == len(self):
            return values
        shape = len(self), *values.shape[1:]
        full = fill if isinstance(fill, Tensor) else values.new_full(shape, fill)
        return full.expand(shape).index_copy(0, rows, values)

    def present(self) -> Tensor | None:
        """The rows ``(R,)``, on the host, that have something of the batch; None where all have."""
        have = self.observed.any(1)
        return None if bool(have.all()) else have.nonzero().squeeze(1)

    def having(self, name: str, rows: Tensor) -> Tensor:
        """Which of some rows ``(N,)``, on the host, have a value of the modality that can be scored."""
        return self.column(name)[rows]

    def index(self, key: object, make: Callable[[], Tensor]) -> Tensor:
        """An index that is made on the host, on the batch's device; it is made, and moved, once."""
        return self._cached(("index", key), make)

    def match(self, name: str, rows: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Pairs that a modality's likelihood needs, and the packed observation of each.

        Args:
            name: The modality.
            rows: The row of each pair ``(N,)``, on the host; None where pair n is row n.

        Returns:
            The pairs ``(N_m,)`` whose row has the modality (None: all), and for each the position of its row in
            ``x[name]`` (None: in order).
        """
        if rows is None:
            return (None if bool(self.column(name).all()) else self.rows(name)), None
        at = self._positions(name)[rows]
        pairs = (at >= 0).nonzero().squeeze(1)
        return _to(pairs, self.device), _to(at[pairs], self.device)

    def only(self, names: Iterable[str]) -> Batch:
        """The view of these modalities. Rows stay; one that has none of them has nothing left."""
        kept = self._known(names)
        columns = [i for i, name in enumerate(self.names) if name in kept]
        chosen = [self.names[i] for i in columns]
        return Batch(
            {m: self.x[m] for m in chosen},
            self.observed[:, columns],
            {m: self.cells[m] for m in chosen if m in self.cells},
            context=self.context,
            size_factors=self.size_factors,
            device=self.device,
        )

    def without(self, names: Iterable[str]) -> Batch:
        """The view of all modalities but these."""
        dropped = self._known(names)
        return self.only(m for m in self.names if m not in dropped)

    def keep(self, kept: Tensor) -> Batch:
        """The view in which each row has those of its modalities alone that ``kept (B, M)``, bool on the host, names.

        It differs from ``only`` in that every row may lose others.
        """
        x, cells = {}, {}
        for i, name in enumerate(self.names):
            stay = kept[:, i][self.observed[:, i]]
            index = None if bool(stay.all()) else _to(stay.nonzero().squeeze(1), self.device)
            x[name] = self.x[name] if index is None else self.x[name].index_select(0, index)
            if name in self.cells:
                cells[name] = self.cells[name] if index is None else self.cells[name].index_select(0, index)
        return self.with_values(x, self.observed & kept, cells)

    def select(self, rows: Tensor) -> Batch:
        """The batch of some rows ``(R,)``, by index or bool mask, in the given order."""
        rows = indices(rows, len(self))
        take = {m: self.match(m, rows)[1] for m in self.names}
        context, factors = self._per_row(lambda v: v.index_select(0, rows.to(v.device, non_blocking=True)))
        return Batch(
            {m: self.x[m][take[m]] for m in self.names},
            self.observed[rows],
            {m: c[take[m]] for m, c in self.cells.items()},
            context=context,
            size_factors=factors,
            device=self.device,
        )

    def with_values(self, x: Mapping[str, Tensor], observed: Tensor, cells: Mapping[str, Tensor]) -> Batch:
        """The same rows with other observations, packed as for the constructor."""
        return Batch(x, observed, cells, context=self.context, size_factors=self.size_factors, device=self.device)

    def with_context(self, context: Mapping[str, Tensor], size_factors: Mapping[str, Tensor]) -> Batch:
        """The same observations with other covariates and size factors."""
        return Batch(self.x, self.observed, self.cells, context=context, size_factors=size_factors, device=self.device)

    def to(self, device: torch.device | str) -> Batch:
        """The batch with its values on a device; ``observed`` stays on the host."""
        if torch.device(device) == self.device:
            return self
        move = {m: v.to(device, non_blocking=True) for m, v in self.x.items()}
        cells = {m: c.to(device, non_blocking=True) for m, c in self.cells.items()}
        context, factors = self._per_row(lambda v: v.to(device, non_blocking=True))
        return Batch(move, self.observed, cells, context=context, size_factors=factors, device=torch.device(device))

    def pin_memory(self) -> Batch:
        """The batch in page-locked memory, for a faster move to a GPU."""
        pinned = {m: v.pin_memory() for m, v in self.x.items()}
        cells = {m: c.pin_memory() for m, c in self.cells.items()}
        context, factors = self._per_row(Tensor.pin_memory)
        return Batch(pinned, self.observed, cells, context=context, size_factors=factors)

    def _positions(self, name: str) -> Tensor:
        """Where in ``x[name]`` the observation of each row stands ``(B,)``, −1 where there is none, on the host."""
        key = ("position", name)
        if key not in self._index:
            have = self.column(name)
            self._index[key] = torch.where(have, have.cumsum(0) - 1, -1)
        return self._index[key]

    def _known(self, names: Iterable[str]) -> set[str]:
        try:
            chosen = {names} if isinstance(names, str) else set(names)
        except TypeError:
            raise DataError(f"Expected names of modalities; got {shown(names)}.") from None
        if unknown := sorted(chosen - set(self.names), key=str):
            raise DataError(f"Unknown modality {unknown[0]!r}; the batch has {', '.join(self.names)}.")
        return chosen

    def stream(self, name: str) -> Iterator[tuple[Tensor, Tensor | None]]:
        """The modality's observed rows in one block, with the mask of their known cells."""
        yield self.values(name)

    def stream_context(self) -> Iterator[Mapping[str, Tensor]]:
        """The covariates of all rows in one block."""
        yield self.context

    def _per_row(self, change: Callable[[Tensor], Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The covariates and the size factors, each changed by the same function."""
        context = {name: change(v) for name, v in self.context.items()}
        return context, {name: change(v) for name, v in self.size_factors.items()}

    def _cached(self, key: object, make: Callable[[], Tensor]) -> Tensor:
        if key not in self._index:
            self._index[key] = _to(make(), self.device)
        return self._index[key]


def _row_mask(name: str, mask: Tensor | None, size: int) -> Tensor:
    if mask is None:
        return torch.ones(size, dtype=torch.bool)
    if mask.dtype != torch.bool or mask.shape != (size,):
        raise DataError(
            f"The mask of {name!r} must be bool of shape ({size},), True where the row has the modality; "
            f"got {str(mask.dtype).removeprefix('torch.')} of shape {tuple(mask.shape)}."
        )
    return mask.cpu()


def indices(rows: Any, size: int) -> Tensor:
    """The indices ``(R,)``, on the host, that a selection of rows stands for: itself, or where a bool mask is set.

    Raises:
        DataError: If it is no selection of so many rows.
    """
    index = rows.cpu() if isinstance(rows, Tensor) else _index(rows)
    if index.dtype != torch.bool:
        if index.ndim != 1 or index.is_floating_point() or index.is_complex():
            given = f"{index.dtype} {tuple(index.shape)}"
            raise DataError(f"Rows are selected by integers (R,) or a bool mask; got {given}.")
        index = index.long()
        least, most = (int(index.min()), int(index.max())) if len(index) else (0, 0)
        if least < 0 or most >= max(size, 1):
            raise DataError(f"Row {least if least < 0 else most} is none of {size} rows, which count from 0.")
        return index
    if index.shape != (size,):
        raise DataError(f"A bool mask of rows must have shape ({size},); got {tuple(index.shape)}.")
    return index.nonzero().squeeze(1)


def _index(rows: Any) -> Tensor:
    array = arguments.array("A selection of rows", rows)
    if array.dtype.kind not in "iub" and array.size:
        raise DataError(f"Rows are selected by integers or a bool mask; got {shown(rows)}.")
    return torch.from_numpy(array.astype(np.bool_ if array.dtype.kind == "b" else np.int64))


def _to(index: Tensor, device: torch.device) -> Tensor:
    return index if device.type == "cpu" else index.to(device, non_blocking=True)
