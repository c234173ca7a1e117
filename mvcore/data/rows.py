"""What a model needs of data, so that rows on disk, or anywhere, can stand beside those in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, final, runtime_checkable

import torch

from mvcore import arguments

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from mvcore.data.batch import Batch
    from mvcore.data.schema import Schema


@runtime_checkable
class Rows(Protocol):
    """Rows with any pattern of observed modalities: what is trained on, measured, imputed and fitted to.

    ``MultimodalDataset`` has them in memory. Another class may read them as they are asked for; it never has to hold
    more than a batch.
    """

    @property
    def schema(self) -> Schema:
        """The modalities."""
        ...

    @property
    def observed(self) -> Tensor:
        """Which row has which modality ``(n, M)``, bool, on the host, in the order of the schema."""
        ...

    @property
    def labels(self) -> np.ndarray[Any, Any] | None:
        """An array of one label for each row, for metrics; None without."""
        ...

    @property
    def ids(self) -> np.ndarray[Any, Any] | None:
        """An array of one identifier for each row, which results are given back by; None without."""
        ...

    def __len__(self) -> int:
        """The number of rows."""
        ...

    def batch(self, rows: Tensor | None = None) -> Batch:
        """Some rows, by index ``(B,)`` or bool mask ``(n,)``, in the given order; all where None."""
        ...

    def stream(self, name: str) -> Iterable[tuple[Tensor, Tensor | None]]:
        """Blocks of the observations of one modality ``(n, *shape)``, in order, with the masks of their known cells."""
        ...

    def stream_context(self) -> Iterable[Mapping[str, Tensor]]:
        """Blocks of the rows' covariates ``(n, *shape)``; asked only where the schema has some."""
        ...


@final
class Selected:
    """Some rows of others, read as they are asked for.

    Args:
        rows: The rows.
        index: Which of them ``(R,)``, by index, in the order they are wanted in.
    """

    def __init__(self, rows: Rows, index: Tensor) -> None:
        self._rows, self._index = rows, index
        self.schema, self.observed = rows.schema, rows.observed[index]
        self.labels = None if rows.labels is None else rows.labels[index.numpy()]
        self.ids = None if rows.ids is None else rows.ids[index.numpy()]

    def __len__(self) -> int:
        return len(self._index)

    def batch(self, rows: Tensor | None = None) -> Batch:
        """Some of the rows, as one batch."""
        return self._rows.batch(self._index if rows is None else self._index[rows])

    def stream(self, name: str) -> Iterator[tuple[Tensor, Tensor | None]]:
        """The observations of one modality, in blocks."""
        for batch in batches(self, BLOCK):
            yield batch.values(name)

    def stream_context(self) -> Iterator[Mapping[str, Tensor]]:
        """The rows' covariates, in blocks."""
        for batch in batches(self, BLOCK):
            yield batch.context


BLOCK = 1024  #: Rows that are read at once where nobody says how many.


def batches(rows: Rows, size: int, *, generator: torch.Generator | None = None) -> Iterator[Batch]:
    """All rows in batches of at most ``size``: in order, or shuffled by a generator."""
    size = arguments.count("size", size)
    order = torch.arange(len(rows)) if generator is None else torch.randperm(len(rows), generator=generator)
    for index in order.split(size):
        yield rows.batch(index)


def column(rows: Rows, name: str) -> Tensor:
    """Which rows have a modality ``(n,)``, bool."""
    return rows.observed[:, rows.schema.names.index(rows.schema[name].name)]


def packed(rows: Rows, name: str) -> tuple[Tensor, Tensor | None]:
    """All observations of a modality ``(n_m, *shape)``, and which of their cells are known; None where all are."""
    values, cells = zip(*rows.stream(name), strict=True)
    if all(c is None for c in cells):
        return torch.cat(values), None
    known = [torch.ones_like(x, dtype=torch.bool) if c is None else c for x, c in zip(values, cells, strict=True)]
    return torch.cat(values), torch.cat(known)


def dense(rows: Rows, name: str) -> tuple[Tensor, Tensor]:
    """One modality ``(n, *shape)``, 0 where a row does not have it, and the mask ``(n,)`` of the rows that do."""
    have = column(rows, name)
    return _spread(packed(rows, name)[0], have), have


def known_cells(rows: Rows, name: str) -> Tensor:
    """Which values of a modality are known ``(n, *shape)``, bool; none of a row that does not have it."""
    values, cells = packed(rows, name)
    return _spread(torch.ones_like(values, dtype=torch.bool) if cells is None else cells, column(rows, name))


def patterns(rows: Rows) -> dict[tuple[str, ...], int]:
    """How many rows have each set of modalities, the most frequent first."""
    codes, counts = rows.observed.unique(dim=0, return_counts=True)
    order, names = counts.argsort(descending=True, stable=True), rows.schema.names
    return {tuple(m for m, has in zip(names, codes[i].tolist(), strict=True) if has): int(counts[i]) for i in order}


def _spread(packed: Tensor, have: Tensor) -> Tensor:
    full = packed.new_zeros(len(have), *packed.shape[1:])
    full[have] = packed
    return full
