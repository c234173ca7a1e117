"""What a model needs of data, so that rows on disk, or anywhere, can stand beside those in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from mvcore.data.batch import Batch
    from mvcore.data.schema import Schema


class Streamable(Protocol):
    """Data whose observed rows of one modality can be read in blocks."""

    def stream(self, name: str) -> Iterable[tuple[Tensor, Tensor | None]]:
        """Blocks of observations ``(n, *shape)`` with the masks of their known cells."""
        ...

    def stream_context(self) -> Iterable[Mapping[str, Tensor]]:
        """Blocks of the rows' covariates ``(n, *shape)``; asked only where the model's schema has some."""
        ...


class Rows(Streamable, Protocol):
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
    def labels(self) -> Any:
        """An array of one label for each row, for metrics; None without."""
        ...

    @property
    def ids(self) -> Any:
        """An index of one identifier for each row, which results are given back by; None without."""
        ...

    def __len__(self) -> int:
        """The number of rows."""
        ...

    def batch(self, rows: Tensor | None = None) -> Batch:
        """Some rows, by index ``(B,)`` or bool mask ``(n,)``, in the given order; all where None."""
        ...


def batches(rows: Rows, size: int, *, generator: torch.Generator | None = None) -> Iterator[Batch]:
    """All rows in batches of at most ``size``: in order, or shuffled by a generator."""
    order = torch.arange(len(rows)) if generator is None else torch.randperm(len(rows), generator=generator)
    for index in order.split(size):
        yield rows.batch(index)


def dense(rows: Rows, name: str) -> tuple[Tensor, Tensor]:
    """One modality ``(n, *shape)``, 0 where a row does not have it, and the mask ``(n,)`` of the rows that do."""
    have = rows.observed[:, rows.schema.names.index(rows.schema[name].name)]
    packed = torch.cat([values for values, _ in rows.stream(name)])
    full = packed.new_zeros(len(rows), *packed.shape[1:])
    full[have] = packed
    return full, have
