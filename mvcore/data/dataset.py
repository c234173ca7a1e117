"""Partially observed data in memory, stored packed, and read batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from mvcore import arguments
from mvcore.data import rows as rows_of
from mvcore.data.batch import Batch, indices
from mvcore.data.context import covariate_spec
from mvcore.data.kinds import default_likelihood
from mvcore.data.narrow import NARROW, as_read_batch, blocks
from mvcore.data.schema import ModalitySpec, Schema
from mvcore.errors import DataError


@final
class MultimodalDataset:
    """Rows with any pattern of observed modalities, in memory.

    Args:
        arrays: For each modality an array or tensor ``(n, *shape)``; what it holds in rows that a mask leaves out is
            never read.
        masks: For each modality that not every row has, a bool array ``(n,)``, True where the row has it.
        likelihoods: Name of the likelihood of each modality; by default normal, bernoulli for bools, categorical for
            few small integers (see ``mvcore.data.kinds``); other integers have none, and it must be said. Batches hold
            all values but categories as float32; the data set holds bools and integers of 8 or 16 bits as they are.
        cells: For modalities with single unknown values, a bool array of the modality's shape, True where known.
        labels: One label for each row, for evaluation only.
        ids: One identifier for each row.
        columns: Names of a table's features.
        context: Covariates, which every row has: arrays ``(n, *shape)`` or ``(n,)`` that encoders and decoders are
            told. Integers are categories 0, 1, 2, …; write other whole numbers, such as an age, as floats.
        size_factors: For modalities of counts what each row's mean is multiplied by ``(n,)``, such as its total count
            over the average one. A row that lacks the modality may have NaN: what is imputed is then for a factor 1.

    Raises:
        DataError: For wrong shapes or dtypes, NaN in an observed row, a row with nothing, an unknown modality.

    Example:
        >>> import numpy as np
        >>> from mvcore.data.dataset import MultimodalDataset
        >>> data = MultimodalDataset(
        ...     {"a": np.zeros((3, 2), np.float32), "b": np.ones((3, 4), np.float32)},
        ...     masks={"b": np.array([True, False, True])},
        ... )
        >>> data.patterns()
        {('a', 'b'): 2, ('a',): 1}
    """

    def __init__(
        self,
        arrays: Mapping[str, Any],
        masks: Mapping[str, Any] | None = None,
        *,
        likelihoods: Mapping[str, str] | None = None,
        cells: Mapping[str, Any] | None = None,
        labels: Any = None,
        ids: Sequence[Any] | None = None,
        columns: Mapping[str, Sequence[str]] | None = None,
        context: Mapping[str, Any] | None = None,
        size_factors: Mapping[str, Any] | None = None,
    ) -> None:
        _check_mappings(arrays, masks=masks, likelihoods=likelihoods, cells=cells, columns=columns, context=context,
                        size_factors=size_factors)  # fmt: skip
        if not arrays:
            raise DataError("A data set needs at least one modality; got none.")
        for what, given in {"masks": masks, "likelihoods": likelihoods, "cells": cells, "columns": columns}.items():
            if unknown := set(given or {}) - set(arrays):
                raise DataError(f"{what} names {min(unknown)!r}, which is no modality; there are {', '.join(arrays)}.")
        x = {name: _tensor(name, a) for name, a in arrays.items()}
        rows = {name: _bools(f"mask of {name!r}", m) for name, m in (masks or {}).items()}
        chosen = {
            name: (likelihoods or {}).get(name) or default_likelihood(name, values, rows.get(name))
            for name, values in x.items()
        }
        x = {name: v if chosen[name] == "categorical" or v.dtype in NARROW else v.float() for name, v in x.items()}
        known = {name: _bools(f"cells of {name!r}", c) for name, c in (cells or {}).items()}
        for name, c in known.items():
            if c.dtype != torch.bool or c.shape != x[name].shape:
                raise DataError(f"The cells of {name!r} must be bool of shape {tuple(x[name].shape)}; got {_kind(c)}.")
            x[name] = x[name].where(c, torch.zeros((), dtype=x[name].dtype))
        batch = Batch.from_dense(x, rows, context=context, size_factors=size_factors)
        if not len(batch):
            raise DataError("A data set needs at least one row; got none.")
        for name in x:
            if not len(batch.x[name]):
                raise DataError(f"No row has the modality {name!r}; leave it out.")
        modalities = tuple(_spec(n, batch.x[n], chosen[n], (columns or {}).get(n)) for n in x)
        self.schema = Schema(modalities, tuple(covariate_spec(n, v) for n, v in batch.context.items()))
        cells = {n: c[batch.column(n)] for n, c in known.items()}
        self._batch = Batch(batch.x, batch.observed, cells, context=batch.context, size_factors=batch.size_factors)
        self.labels = _row_values("labels", labels, len(batch))
        self.ids = _row_values("ids", None if ids is None else _as_they_are(ids), len(batch))

    @classmethod
    def from_batch(cls, schema: Schema, batch: Batch, *, labels: Any = None, ids: Any = None) -> MultimodalDataset:
        """The data set of a batch that fits a schema; of some of its modalities there may be no row."""
        other = object.__new__(cls)
        other.schema, other._batch = schema, batch
        other.labels = _row_values("labels", labels, len(batch))
        other.ids = _row_values("ids", ids, len(batch))
        return other

    def like(
        self,
        frames: Mapping[str, Any],
        *,
        ids: str | None = None,
        labels: Any = None,
        context: Any = None,
        size_factors: Mapping[str, Any] | None = None,
    ) -> MultimodalDataset:
        """New tables with the columns of this data set, such as new patients; see ``mvcore.from_frames``."""
        from mvcore.data.frames import from_frames

        return from_frames(
            frames, ids=ids, labels=labels, context=context, size_factors=size_factors, schema=self.schema
        )

    def __len__(self) -> int:
        return len(self._batch)

    def __repr__(self) -> str:
        counts = ", ".join(f"{m}: {len(self._batch.x[m])}" for m in self.schema.names)
        return f"MultimodalDataset({len(self)} rows; {counts})"

    @property
    def observed(self) -> Tensor:
        """Which row has which modality ``(n, M)``, bool."""
        return self._batch.observed

    def patterns(self) -> dict[tuple[str, ...], int]:
        """How many rows have each set of modalities, the most frequent first."""
        return rows_of.patterns(self)

    def batch(self, rows: Tensor | None = None) -> Batch:
        """Some rows, by index or bool mask, or all, as one batch."""
        return as_read_batch(self._batch if rows is None else self._batch.select(rows), self.schema)

    @property
    def held(self) -> Batch:
        """All rows as they are held: small integers and booleans in their own width."""
        return self._batch

    def batches(self, size: int, *, generator: torch.Generator | None = None) -> Iterator[Batch]:
        """All rows in batches of at most ``size``: in order, or shuffled by a generator."""
        return rows_of.batches(self, size, generator=generator)

    def stream(self, name: str) -> Iterator[tuple[Tensor, Tensor | None]]:
        """The observed rows of one modality, in blocks, with the masks of their known cells."""
        yield from blocks(self._batch, self.schema[name])

    def stream_context(self) -> Iterator[Mapping[str, Tensor]]:
        """The covariates of all rows."""
        yield from self._batch.stream_context()

    def dense(self, name: str) -> tuple[Tensor, Tensor]:
        """One modality ``(n, *shape)``, 0 where a row does not have it, and the mask ``(n,)`` of the rows that do."""
        return rows_of.dense(self, name)

    def to(self, device: torch.device | str) -> MultimodalDataset:
        """The data set with its values on a device, where a training then selects its batches.

        ``observed``, labels and ids stay on the host.
        """
        return self._replace(self._batch.to(device), torch.arange(len(self)))

    def select(self, rows: Any) -> MultimodalDataset:
        """The data set of some rows, by index or bool mask."""
        index = indices(rows, len(self))
        return self._replace(self._batch.select(index), index)

    def split(self, share: float, *, seed: int = 0) -> tuple[MultimodalDataset, MultimodalDataset]:
        """Two random parts, the first with ``share`` of the rows."""
        seed = arguments.seed("seed", seed)
        if not 0 < arguments.real("share", share) < 1:
            raise DataError(f"share must lie between 0 and 1, got {share!r}.")
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        first = round(share * len(self))
        if not 0 < first < len(self):
            raise DataError(f"A share of {share!r} of {len(self)} rows leaves a part without any; choose another.")
        return self.select(order[:first]), self.select(order[first:])

    def hide(self, mask: Any) -> MultimodalDataset:
        """The data set without what a bool array ``(n, M)`` marks True; columns in the order of the schema."""
        hidden = _bools("mask", mask)
        if hidden.dtype != torch.bool or hidden.shape != self.observed.shape:
            raise DataError(f"The mask must be bool of shape {tuple(self.observed.shape)}; got {_kind(hidden)}.")
        observed = self.observed & ~hidden
        if empty := int((~observed.any(1)).sum()):
            raise DataError(f"{empty} of {len(self)} rows would have no modality left; keep one in every row.")
        return self._replace(self._batch.keep(observed), torch.arange(len(self)))

    def _replace(self, batch: Batch, rows: Tensor) -> MultimodalDataset:
        other = object.__new__(MultimodalDataset)
        other.schema, other._batch = self.schema, batch
        other.labels = None if self.labels is None else self.labels[rows.numpy()]
        other.ids = None if self.ids is None else self.ids[rows.numpy()]
        return other


_NARROW = {np.dtype(kind): kind for kind in (np.bool_, np.uint8, np.int8, np.int16)}


def _check_mappings(arrays: Any, **others: Any) -> None:
    for what, given in {"arrays": arrays, **others}.items():
        if not (given is None and what != "arrays") and not isinstance(given, Mapping):
            raise DataError(f"{what} must be a dict with an entry for each modality; got {type(given).__name__}.")
    for name in arrays:
        ModalitySpec(name=name, shape=(1,))  # a name that none may have is refused before its array is read


def _tensor(name: str, array: Any) -> Tensor:
    if isinstance(array, Tensor):
        tensor = array.detach()
    else:
        values = arguments.array(f"Modality {name!r}", array)
        if values.dtype.kind not in "fiub":
            raise DataError(f"Modality {name!r} must hold numbers; got dtype {values.dtype}.", modality=name)
        kind = np.float32 if values.dtype.kind == "f" else _NARROW.get(values.dtype.newbyteorder("="), np.int64)
        with np.errstate(over="ignore"):  # what is too large for a float32 becomes infinite, and is refused as that
            tensor = torch.from_numpy(np.array(values, dtype=kind))  # a copy: any byte order, strides or flags
    if tensor.is_complex():
        raise DataError(f"Modality {name!r} must hold real numbers; got {_kind(tensor)}.", modality=name)
    if tensor.ndim < 2:
        raise DataError(
            f"Modality {name!r} must have shape (rows, features, …); got {tuple(tensor.shape)}. "
            "Write a single feature as (rows, 1).",
            modality=name,
        )
    if tensor.dtype in NARROW:
        return tensor
    return tensor.float() if tensor.is_floating_point() else tensor.long()


def _bools(what: str, values: Any) -> Tensor:
    array = values.numpy(force=True) if isinstance(values, Tensor) else arguments.array(f"The {what}", values)
    if array.dtype != np.bool_:
        raise DataError(f"The {what} must be bool; got {array.dtype} of shape {array.shape}.")
    return torch.from_numpy(array.copy())


def _spec(name: str, x: Tensor, likelihood: str, columns: Sequence[str] | None) -> ModalitySpec:
    categories = None
    if not x[0].numel():
        raise DataError(f"Modality {name!r} has observations without values; got {_kind(x)}.", modality=name)
    if likelihood == "categorical":
        if x.dtype == torch.bool or x.is_floating_point() or int(x.min()) < 0:
            raise DataError(
                f"Modality {name!r} must hold categories, integers 0, 1, 2, …; got {_kind(x)}. If it holds other "
                f"values, say so: likelihoods={{{name!r}: 'normal'}}, for example.",
                modality=name,
            )
        categories = int(x.max()) + 1
    if columns is not None and len(columns) != x.shape[1]:
        raise DataError(f"Modality {name!r} has {x.shape[1]} features, but {len(columns)} names of columns.")
    names = None if columns is None else tuple(columns)
    return ModalitySpec(name=name, shape=x.shape[1:], likelihood=likelihood, categories=categories, columns=names)


def _as_they_are(ids: Any) -> np.ndarray[Any, Any]:
    """Ids as an array that makes no text of numbers beside text, and no rows of tuples."""
    if isinstance(ids, np.ndarray):
        return ids
    each = list(ids)
    if all(type(i) is int for i in each):
        return np.asarray(each)
    array = np.empty(len(each), dtype=object)
    array[:] = each
    return array


def _row_values(what: str, values: Any, size: int) -> np.ndarray[Any, Any] | None:
    if values is None:
        return None
    array = np.asarray(values)
    if array.shape[:1] != (size,):
        raise DataError(f"{what} must have one entry for each of {size} rows; got shape {array.shape}.")
    return array


def _kind(x: Tensor) -> str:
    return f"{str(x.dtype).removeprefix('torch.')} of shape {tuple(x.shape)}"
