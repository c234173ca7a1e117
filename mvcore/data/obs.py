"""What AnnData and MuData say of their cells beside the values: columns of ``obs``, totals; and the way back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mvcore.arguments import shown
from mvcore.data.tables import listed, pandas
from mvcore.errors import DataError

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

#: What a total count is divided by: size factors of new cells then mean what those of the training cells did.
PER = 10_000.0
TOTALS = "totals"


def context_of(names: Any, tables: Sequence[Any]) -> Any:
    """The covariates as a table ``(cells × covariates)``: columns of ``obs`` by name, or a table that is given.

    Args:
        names: A name, several of them, a DataFrame; None for none.
        tables: Each ``obs`` to look in; the first that has a cell and the column says what it is.

    Raises:
        DataError: If none has a column, or two of them differ in a cell.
    """
    if names is None or isinstance(names, pandas().DataFrame):
        return names
    wanted = [names] if isinstance(names, str) else list(names) if isinstance(names, Iterable) else [names]
    if not wanted or not all(isinstance(name, str) for name in wanted):
        raise DataError(f"context must name columns of obs, such as ['batch'], or be a DataFrame; got {shown(names)}.")
    columns = {name: _as_category(_column(name, tables, "context")) for name in wanted}
    return pandas().DataFrame(columns)


def factors_of(factors: Any, adatas: Mapping[str, Any], tables: Mapping[str, Sequence[Any]], frames: Any) -> Any:
    """Size factors by modality as Series: a column of ``obs`` by its name, totals, or a Series that is given.

    Args:
        factors: For each modality of counts one of them; None for none.
        adatas: The modalities.
        tables: For each modality the ``obs`` to look in.
        frames: The values of each modality, for totals.

    Raises:
        DataError: If there is no such modality or column.
    """
    if factors is None:
        return None
    if not isinstance(factors, Mapping):
        raise DataError(
            f"size_factors must map modalities to columns of obs, such as {{'rna': 'n_counts'}}, or to 'totals'; got "
            f"{shown(factors)}."
        )
    found = {}
    for m, named in factors.items():
        if m not in adatas:
            raise DataError(f"size_factors names {m!r}, which is no modality; there are {', '.join(adatas)}.")
        if named == TOTALS and not any(TOTALS in obs for obs in tables[m]):
            found[m] = pandas().Series(_totals(frames[m].values) / PER, index=frames[m].index)
        else:
            found[m] = _column(named, tables[m], f"size_factors[{m!r}]") if isinstance(named, str) else named
    return found


def into_obsm(target: AnnData | MuData, table: Any, key: str = "X_mvcore") -> None:
    """Writes a table of cells, such as ``mvcore.embed`` gives, into ``target.obsm[key]``, matched by ``obs_names``.

    Cells that the table lacks get NaN.

    Args:
        target: An AnnData or MuData; it is changed in place.
        table: A DataFrame (cells × dimensions).
        key: Its name there.

    Raises:
        DataError: If it is no table, or has none of the cells.
    """
    if not isinstance(table, pandas().DataFrame):
        raise DataError(f"Expected a DataFrame of cells, as mvcore.embed gives it; got {type(table).__name__}.")
    if not hasattr(target, "obsm"):
        raise DataError(f"Expected an AnnData or a MuData to write into; got {type(target).__name__}.")
    known = table.index.intersection(target.obs_names)
    if not len(known):
        raise DataError(
            f"The table and the object have no cell in common; their first are {listed(table.index[:1])} and "
            f"{listed(target.obs_names[:1])}."
        )
    target.obsm[key] = table.reindex(target.obs_names).to_numpy()


def into_layer(target: AnnData, table: Any, key: str = "mvcore") -> None:
    """Writes a filled table, such as ``mvcore.impute(…)["rna"].filled``, into ``target.layers[key]``.

    Cells are matched by ``obs_names``, columns by ``var_names``; cells that the table lacks get NaN.

    Args:
        target: An AnnData; it is changed in place.
        table: A DataFrame (cells × columns).
        key: Its name there.

    Raises:
        DataError: If it is no table, or lacks columns or all cells of the object.
    """
    if not isinstance(table, pandas().DataFrame):
        raise DataError(f"Expected a DataFrame, as mvcore.impute gives it; got {type(table).__name__}.")
    if lacking := target.var_names.difference(table.columns).tolist():
        raise DataError(f"The table lacks columns of the object: {listed(lacking)}.")
    if not len(table.index.intersection(target.obs_names)):
        raise DataError("The table and the object have no cell in common.")
    target.layers[key] = table.reindex(index=target.obs_names, columns=target.var_names).to_numpy()


def _totals(values: Any) -> Any:
    """The sums of the known values of each cell ``(n,)``, of a sparse matrix or a dense one."""
    dense = isinstance(values, np.ndarray)
    total = np.nansum(values, axis=1) if dense else values.sum(axis=1)
    return np.asarray(total, dtype=np.float64).ravel()


def _column(name: str, tables: Sequence[Any], what: str) -> Any:
    """A column of the first table that has a cell, over all cells of all tables."""
    having = [obs[name] for obs in tables if name in obs]
    if not having:
        known = dict.fromkeys(str(column) for obs in tables for column in obs)
        raise DataError(f"{what}: no obs has a column {name!r}; there are {listed(known, 10) or 'none'}.")
    column = having[0]
    for other in having[1:]:
        both = column.index.intersection(other.index)
        one, two = column.loc[both].astype(object), other.loc[both].astype(object)
        differ = both[((one != two) & ~(one.isna() & two.isna())).to_numpy()]
        if len(differ):
            raise DataError(
                f"{what}: the column {name!r} differs between modalities in {len(differ)} cells, first {differ[0]!r}: "
                f"{one[differ[0]]!r} and {two[differ[0]]!r}."
            )
        column = pandas().concat([column, other.loc[other.index.difference(column.index)]])
    return column


def _as_category(column: Any) -> Any:
    """Text as categories; numbers, booleans and categories as they are."""
    kind = pandas().api.types.infer_dtype(column, skipna=True)
    categorical = isinstance(column.dtype, pandas().CategoricalDtype)
    return column.astype("category") if kind == "string" and not categorical else column
