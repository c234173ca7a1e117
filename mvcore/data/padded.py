"""Batches of a fixed shape: every modality has an entry for every row, and a mask says which of them count."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import final

import torch
from torch import Tensor

from mvcore.data.batch import Batch
from mvcore.errors import MvcoreError


class NotCapturableError(MvcoreError, RuntimeError):
    """A step asks for what a padded batch does not know on the host; it is then made of packed rows."""


@final
class PaddedBatch(Batch):
    """Rows whose pattern is on the device, so that a step over them has one shape, whatever they have.

    ``x[m]`` is ``(B, *shape)``; a row that lacks m has another row's values there, which are finite. Whatever is made
    of them is masked before it is used, so that they add exactly 0 to a loss and its gradients. ``observed`` is on the
    device; what would need it on the host raises a ``NotCapturableError``.

    Args:
        x: For each modality ``(B, *shape)``.
        masks: For each modality which rows have it ``(B,)``, bool, on the device; None where every row of the data has.
        size: The number of rows B.
        cells: Which values inside an observation are known, of the shape of ``x[m]``.
        context: Covariates ``(B, *shape)``.
        size_factors: For some modalities what each row's mean is multiplied by ``(B,)``.
        device: Where all of these are.
        nothing: Whether a row may have none of the modalities, as of a view.
        constants: What does not change from batch to batch, by name; shared with views.
    """

    __slots__ = ("_constants", "_size", "masks", "nothing")

    def __init__(
        self,
        x: Mapping[str, Tensor],
        masks: Mapping[str, Tensor | None],
        size: int,
        *,
        device: torch.device,
        cells: Mapping[str, Tensor] | None = None,
        context: Mapping[str, Tensor] | None = None,
        size_factors: Mapping[str, Tensor] | None = None,
        nothing: bool = False,
        constants: dict[object, Tensor] | None = None,
    ) -> None:
        self.x, self.masks, self._size, self.device = dict(x), dict(masks), size, device
        self.cells, self.context, self.size_factors = dict(cells or {}), dict(context or {}), dict(size_factors or {})
        self.names, self.nothing = tuple(self.x), nothing
        self._constants: dict[object, Tensor] = {} if constants is None else constants
        self._index: dict[object, Tensor] = {}

    def __len__(self) -> int:
        return self._size

    def __repr__(self) -> str:
        return f"PaddedBatch({len(self)} rows; {', '.join(self.names)})"

    @property
    def observed(self) -> Tensor:  # type: ignore[override]
        """Which row has which modality ``(B, M)``, bool, on the device."""
        if not self.names:
            return self.constant("no modality", lambda: torch.zeros(len(self), 0, dtype=torch.bool))
        return self._kept("observed", lambda: torch.stack([self.column(m) for m in self.names], 1))

    @property
    def shares(self) -> Tensor:
        """1 where a row has a modality, 0 where not, ``(M, B)``, float32, on the device."""
        return self._kept("shares", lambda: self.observed.T.float())

    @property
    def complete(self) -> bool:
        """Whether every row of the data has every modality of the batch."""
        return all(mask is None for mask in self.masks.values())

    def column(self, name: str) -> Tensor:
        """Which rows have the modality ``(B,)``, on the device."""
        mask = self.masks.get(name)
        if mask is not None:
            return mask
        return self.constant(("column", name in self.x), lambda: torch.full((len(self),), name in self.x))

    def rows(self, name: str) -> Tensor:
        """The rows ``(B,)`` whose values stand in ``x``: all of them."""
        return self.constant("rows", lambda: torch.arange(len(self)))

    def mask(self, name: str) -> Tensor | None:
        """Which rows have the modality ``(B,)``, on the device; None where every row of the data has it."""
        return self.masks[name] if name in self.masks else self.column(name)

    def placed(self, name: str, values: Tensor, fill: float | Tensor = 0.0) -> Tensor:
        """``(B, …)`` of a modality's ``(B, …)``: ``fill`` where the row lacks it."""
        mask = self.mask(name)
        return values if mask is None else values.where(mask.view(-1, *[1] * (values.ndim - 1)), fill)

    def dense(self, packed: Sequence[Tensor], fill: float) -> Tensor:
        """One ``(B, D)`` for each modality as ``(M, B, D)``, ``fill`` where a row lacks the modality."""
        values = torch.stack(list(packed))
        return values if self.complete else values.where(self.observed.T[..., None], fill)

    def having(self, name: str, rows: Tensor) -> Tensor:
        """Every row: one that lacks the modality has another one's values, and is masked where it is scored."""
        return torch.ones(len(rows), dtype=torch.bool)

    def index(self, key: object, make: Callable[[], Tensor]) -> Tensor:
        """An index that is made on the host, once for all batches of this size."""
        return self.constant(("index", key), make)

    def match(self, name: str, rows: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Every pair, and the position of each pair's row in ``x[name]``; pairs are all rows, once or several times."""
        if rows is None:
            return None, None
        return None, self.constant(("match", len(rows)), lambda: torch.arange(len(self)).repeat(len(rows) // len(self)))

    def present(self) -> Tensor | None:
        """None: a term that is 0 where a row has nothing is taken of all rows."""
        return None

    def only(self, names: Iterable[str]) -> PaddedBatch:
        """The view of these modalities."""
        kept = self._known(names)
        return self._view({m: x for m, x in self.x.items() if m in kept}, self.masks)

    def without(self, names: Iterable[str]) -> PaddedBatch:
        """The view of all modalities but these."""
        dropped = self._known(names)
        return self.only(m for m in self.names if m not in dropped)

    def keep(self, kept: Tensor) -> PaddedBatch:
        """The view in which each row has those of its modalities alone that ``kept (B, M)``, on the device, names."""
        masks = dict(zip(self.names, (self.observed & kept).unbind(1), strict=True))
        return self._view(self.x, masks)

    def select(self, rows: Tensor) -> Batch:
        """Refused: how many rows there are would depend on the pattern."""
        raise NotCapturableError("Rows are selected by what they have.")

    def with_values(self, x: Mapping[str, Tensor], observed: Tensor, cells: Mapping[str, Tensor]) -> Batch:
        """Refused, for the same reason."""
        raise NotCapturableError("The observations of a batch are replaced.")

    def constant(self, name: object, make: Callable[[], Tensor]) -> Tensor:
        """A tensor that is the same for every batch of this size, made on the host once."""
        if name not in self._constants:
            self._constants[name] = make().to(self.device)
        return self._constants[name]

    def _view(self, x: Mapping[str, Tensor], masks: Mapping[str, Tensor | None]) -> PaddedBatch:
        masks = {m: masks[m] for m in x}
        cells = {m: self.cells[m] for m in x if m in self.cells}
        # a view of fewer modalities leaves rows with nothing, unless every row of the data has one of them
        nothing = len(x) < len(self.x) and all(mask is not None for mask in masks.values())
        return PaddedBatch(
            x, masks, len(self), device=self.device, cells=cells, context=self.context,
            size_factors=self.size_factors, nothing=self.nothing or nothing, constants=self._constants,
        )  # fmt: skip

    def _kept(self, key: object, make: Callable[[], Tensor]) -> Tensor:
        if key not in self._index:
            self._index[key] = make()
        return self._index[key]


def padded(batch: Batch, *, shift: int = 0) -> PaddedBatch:
    """A packed batch as a padded one on its device, for comparisons.

    Args:
        batch: The rows.
        shift: Which other row's values stand where a row lacks a modality: so many further on.
    """
    position = padding(batch.observed, shift)
    x, cells, masks = {}, {}, {}
    for i, name in enumerate(batch.names):
        values, known = batch.values(name)
        index = position[i].to(values.device)
        x[name] = values[index] if len(values) else values.new_zeros(len(batch), *values.shape[1:])
        if known is not None:
            cells[name] = known[index] if len(values) else known.new_ones(x[name].shape)
        masks[name] = batch.column(name).to(batch.device)
    return PaddedBatch(
        x, masks, len(batch), device=batch.device, cells=cells, context=batch.context,
        size_factors=batch.size_factors,
    )  # fmt: skip


def padding(observed: Tensor, shift: int = 0) -> Tensor:
    """For each modality and row the position ``(M, n)`` of the row's values among the packed ones.

    A row that lacks the modality has the position of the row before it that has it, or, with ``shift``, of one so many
    further on.
    """
    have = observed.T
    counts = have.sum(1, keepdim=True).clamp(min=1)
    last = have.cumsum(1) - 1
    return last.where(have, (last + shift) % counts)
