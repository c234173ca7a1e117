"""The cells of a table as numbers, read in blocks of rows, so that no table is ever held a second time as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, final

import numpy as np
from attrs import frozen

from mvcore.data.checks import LARGEST

Array = np.ndarray[Any, Any]
Rows = slice | Array  #: Rows of a table, by position.
Block = Callable[[Rows], Array]  #: Some rows of a table ``(b, F)`` in floats, NaN where unknown; not to be written to.

#: Values of a block: 2**19 in float64 are 4 MiB.
VALUES = 2**19


@final
@frozen(kw_only=True)
class Matrix:
    """A table whose values are one array or sparse matrix; its rows and columns have pandas' indexes as names."""

    values: Any
    index: Any
    columns: Any


@final
@frozen(kw_only=True)
class Facts:
    """What a first look at the cells of a table found."""

    filled: Array
    """Which rows ``(n,)`` have a known value."""
    gaps: bool
    """Whether one of these rows has an unknown value too."""
    least: Array
    """The smallest value of each column ``(F,)``; NaN where it has none."""
    most: Array
    """The greatest."""
    extreme: tuple[int, int] | None
    """The row and the column of the first value that is infinite or too large."""


def of_frame(frame: Any) -> Block:
    """The cells of a DataFrame whose columns are all numbers or booleans, whatever their dtypes."""
    dtypes = set(frame.dtypes)
    plain = all(isinstance(d, np.dtype) for d in dtypes)
    small = plain and dtypes <= {np.dtype(np.float32), np.dtype(np.float16)}
    options: dict[str, Any] = {"dtype": np.float32 if small else np.float64} | ({} if plain else {"na_value": np.nan})
    return lambda rows: frame.iloc[rows].to_numpy(**options)


def of_arrays(arrays: Sequence[Array]) -> Block:
    """The cells of columns in float64, each an array ``(n,)``."""
    return lambda rows: np.stack([a[rows] for a in arrays], axis=1)


def of_matrix(values: Any) -> Block:
    """The cells of an array or sparse matrix of numbers."""
    held = values.tocsr() if hasattr(values, "tocsr") else values
    dtype = held.dtype if held.dtype in (np.float32, np.float64) else np.float64

    def block(rows: Rows) -> Array:
        part = held[rows]
        dense: Array = np.asarray(part.toarray() if hasattr(part, "toarray") else part, dtype=dtype)
        return dense

    return block


def blocks(block: Block, rows: Array, width: int) -> Iterator[tuple[slice, Array]]:
    """The cells at some rows ``(R,)``, part by part: the place of the part in ``rows``, and its values."""
    step = max(1, VALUES // max(1, width))
    in_order = len(rows) > 0 and bool((np.diff(rows) == 1).all())  # slices spare a copy
    for start in range(0, len(rows), step):
        part = slice(start, min(start + step, len(rows)))
        yield part, block(slice(int(rows[0]) + part.start, int(rows[0]) + part.stop) if in_order else rows[part])


def look(block: Block, size: int, width: int) -> Facts:
    """Looks at all cells of a table once."""
    least, most, filled, gaps, extreme = (
        np.full(width, np.nan),
        np.full(width, np.nan),
        np.ones(size, bool),
        False,
        None,
    )
    for part, values in blocks(block, np.arange(size), width):
        low, high = np.fmin.reduce(values, axis=0), np.fmax.reduce(values, axis=0)
        if extreme is None and (np.fmax(high, -low) >= LARGEST).any():
            row, column = np.argwhere(np.abs(values) >= LARGEST)[0]
            extreme = part.start + int(row), int(column)
        least, most = np.fmin(least, low), np.fmax(most, high)
        unknown = np.isnan(values)
        if unknown.any():
            filled[part] = ~unknown.all(axis=1)
            gaps |= bool((unknown.any(axis=1) & filled[part]).any())
    return Facts(filled=filled, gaps=gaps, least=least, most=most, extreme=extreme)


def filled_in(block: Block, rows: Array, width: int, dtype: Any, *, gaps: bool) -> tuple[Array, Array | None]:
    """The values at some rows ``(R, F)``, 0 where unknown, and the mask of the known ones; None without gaps."""
    out = np.empty((len(rows), width), dtype=dtype)
    known = np.empty(out.shape, dtype=bool) if gaps else None
    for part, values in blocks(block, rows, width):
        if known is not None:
            np.logical_not(np.isnan(values), out=known[part])
            values = np.where(known[part], values, 0)
        out[part] = values
    return out, known


def whole(block: Block, size: int, width: int) -> Array:
    """Which columns ``(F,)`` have no known value but whole numbers."""
    found = np.ones(width, dtype=bool)
    for _, values in blocks(block, np.arange(size), width):
        found &= ((values == np.floor(values)) | np.isnan(values)).all(axis=0)
    return found
