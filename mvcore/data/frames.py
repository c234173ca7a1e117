"""From DataFrames to a data set, rows matched by their ids, and from tensors back to DataFrames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from mvcore import arguments
from mvcore.arguments import shown
from mvcore.data import tables
from mvcore.data.batch import Batch
from mvcore.data.context import row_factors
from mvcore.data.covariates import read_context
from mvcore.data.dataset import MultimodalDataset
from mvcore.data.schema import ModalitySpec, Schema
from mvcore.data.tables import Table, index_of, listed, listed_problems, pandas
from mvcore.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")


def from_frames(
    frames: Mapping[str, pd.DataFrame],
    *,
    likelihoods: Mapping[str, str] | None = None,
    ids: str | None = None,
    labels: pd.Series | None = None,
    context: pd.DataFrame | None = None,
    size_factors: Mapping[str, pd.Series] | None = None,
    schema: Schema | None = None,
) -> MultimodalDataset:
    """A data set of tables, one a modality, whose rows are matched by id and need not be the same.

    The rows are those of any table, in the order in which they first appear. NaN, None and NA are unknown cells; a
    row without a single known cell in a table does not have that modality. Columns hold numbers, booleans or
    categories, each modality one of the three; names, order and types of the columns and the names of the categories
    go into the schema. Numbers are held in float32.

    Args:
        frames: A DataFrame for each modality.
        likelihoods: Names of likelihoods; by default normal for numbers, bernoulli for booleans, categorical for
            categories.
        ids: The column of the ids, in every table; by default their index.
        labels: One label for each id, matched by its index, for evaluation only; ids that no table has are left out.
        context: Covariates that every row has, one a column: numbers, booleans, or categories. Ids that no table has
            are left out.
        size_factors: For modalities of counts what each row's mean is multiplied by, matched by the index; see
            ``MultimodalDataset``.
        schema: The schema of a model or of other data that the tables must fit: each with the same columns, in any
            order, and no unknown category. Modalities may be absent. Whole numbers may stand in a column of floats,
            and floats that are whole in one of integers, for pandas turns integers with gaps into floats.

    Raises:
        DataError: With all that is wrong with the tables.
        MissingExtraError: Without pandas.

    Example:
        >>> import pandas as pd
        >>> labs = pd.DataFrame({"crp": [3.1, None], "ldl": [2.2, 4.0]}, index=["ann", "bob"])
        >>> sex = pd.DataFrame({"sex": pd.Categorical(["f", "m"])}, index=["cleo", "bob"])
        >>> data = from_frames({"labs": labs, "sex": sex})
        >>> data.ids.tolist(), data.observed.tolist()
        (['ann', 'bob', 'cleo'], [[True, False], [True, True], [False, True]])
    """
    if not isinstance(frames, Mapping):
        raise DataError(f"Expected a dict of tables by modality; got {type(frames).__name__}.")
    if not frames:
        raise DataError("A data set needs at least one table; got none.")
    _check_settings(frames, likelihoods, schema)
    if ids is not None and not isinstance(ids, (str, int)):
        raise DataError(f"ids must be the name of the column that holds them; got {shown(ids)}.")
    read, problems = _each({m: tables.read(m, frame, ids) for m, frame in frames.items()})
    problems += _in_kinds_of_ids(read)
    if schema is None:
        wanted = dict(likelihoods or {})
        problems += [f"No row has a value in {m!r}; leave it out" for m, table in read.items() if not _has_some(table)]
        some = {m: table for m, table in read.items() if _has_some(table)}
        specs, faults = _each({m: tables.infer(m, table, wanted.get(m)) for m, table in some.items()})
    else:
        specs = {spec.name: spec for spec in schema}
        read, faults = _each({m: tables.fitted(table, schema[m]) for m, table in read.items() if m in schema.names})
    _raise_all(problems + faults)
    names, problems = _union(read)
    covariates, values, faults = read_context(context, ids, names, schema)
    _raise_all(problems + faults)
    known = Schema(tuple(specs.values()), covariates)
    batch = _batch(known, read, names)
    has = {m: batch.column(m) for m in batch.names}
    batch = batch.with_context(values, row_factors(_matched(size_factors, names), has, len(names)))
    return MultimodalDataset.from_batch(known, batch, labels=_labels(labels, names), ids=names.to_numpy())


def to_frame(values: Tensor, spec: ModalitySpec, ids: Any) -> pd.DataFrame:
    """Values ``(n, F)`` of a modality that has columns as a DataFrame; codes of categories become their names."""
    pd = pandas()
    index = pd.RangeIndex(len(values)) if ids is None else index_of(ids)
    array = values.numpy(force=True)
    if spec.category_names is None:
        return pd.DataFrame(array, index=index, columns=list(spec.columns or ()), copy=False)
    named = {
        column: pd.Categorical.from_codes(array[:, i], categories=list(categories))
        for i, (column, categories) in enumerate(zip(spec.columns or (), spec.category_names, strict=True))
    }
    return pd.DataFrame(named, index=index)


def _matched(factors: Any, names: Any) -> dict[str, Any]:
    """Series by the rows' ids, NaN where there is no entry."""
    given = arguments.mapping("size_factors", factors)
    for m, series in given.items():
        if not isinstance(series, pandas().Series) or not series.index.is_unique or series.dtype.kind not in "fiu":
            raise DataError(f"size_factors[{m!r}] must be a Series of numbers with unique ids; got {shown(series)}.")
    return {m: series.reindex(names).to_numpy(dtype=np.float64) for m, series in given.items()}


def _each(results: Mapping[str, tuple[T | None, list[str]]]) -> tuple[dict[str, T], list[str]]:
    """What was made of each modality, where something was, and all problems."""
    found = {m: result for m, (result, _) in results.items() if result is not None}
    return found, [problem for _, problems in results.values() for problem in problems]


def _raise_all(problems: list[str]) -> None:
    if problems:
        plural = "" if len(problems) == 1 else "s"
        raise DataError("\n  ".join([f"{len(problems)} problem{plural} in the tables", *listed_problems(problems)]))


def _check_settings(frames: Mapping[str, Any], likelihoods: Mapping[str, str] | None, schema: Schema | None) -> None:
    arguments.mapping("likelihoods", likelihoods)
    if schema is not None and likelihoods:
        raise DataError("Likelihoods are part of the schema; give one of the two.")
    for what, names in {"likelihoods": likelihoods or {}, "frames": frames}.items():
        known = list(frames) if schema is None else list(schema.names)
        if unknown := [m for m in names if m not in known]:
            raise DataError(f"{what} names {listed(unknown)}, which is no modality; there are {', '.join(known)}.")


def _has_some(table: Table) -> bool:
    """Whether any row has the modality."""
    return bool(table.facts.filled.any()) or "unreadable" in table.kinds


def _in_kinds_of_ids(read: Mapping[str, Table]) -> list[str]:
    """Whether ids are text here and numbers there."""
    kinds = {m: pandas().api.types.infer_dtype(table.ids, skipna=False) for m, table in read.items() if len(table.ids)}
    if len({kind for kind in kinds.values() if not kind.startswith("mixed")}) < 2:
        return []
    each = ", ".join(f"{m!r}: {kind}" for m, kind in kinds.items())
    return [f"The ids are not of one type, so that they would not match ({each}); convert the indexes"]


def _union(read: Mapping[str, Table]) -> tuple[Any, list[str]]:
    """All ids in the order in which they first appear, and what is wrong with them together."""
    names = index_of(list(dict.fromkeys(i for table in read.values() for i in table.ids)))
    has = np.zeros(len(names), dtype=bool)
    for table in read.values():
        has[names.get_indexer(table.ids)] |= table.facts.filled
    if len(has) and has.any() and not has.all():
        none = names[~has].tolist()
        return names, [f"{len(none)} rows have no value in any table; drop them: {listed(none)}"]
    return names, [] if has.any() else ["The tables have no row with a value; a data set needs at least one"]


def _batch(schema: Schema, read: Mapping[str, Table], names: Any) -> Batch:
    x, cells, observed = {}, {}, torch.zeros(len(names), len(schema), dtype=torch.bool)
    for column, spec in enumerate(schema):
        dtype = torch.long if spec.categories is not None else torch.float32
        x[spec.name] = torch.zeros(0, *spec.shape, dtype=dtype)
        if spec.name not in read:
            continue
        table = read[spec.name]
        rows = names.get_indexer(table.ids)
        order = np.argsort(rows)
        order = order[table.facts.filled[order]]
        observed[torch.from_numpy(rows[order]), column] = True
        kind = np.int64 if spec.categories is not None else np.float32
        values, known = table.values(order, kind, gaps=table.facts.gaps)
        x[spec.name] = torch.from_numpy(values)
        if known is not None:
            cells[spec.name] = torch.from_numpy(known)
    return Batch(x, observed, cells)


def _labels(labels: Any, names: Any) -> Any:
    if labels is None:
        return None
    if not isinstance(labels, pandas().Series):
        raise DataError(f"labels must be a Series, matched by its index; got {type(labels).__name__}.")
    if not labels.index.is_unique:
        twice = labels.index[labels.index.duplicated()].unique()
        raise DataError(f"labels has more than one entry for {listed(twice)}.")
    if len(missing := names.difference(labels.index)):
        raise DataError(f"labels has no entry for {len(missing)} of {len(names)} rows: {listed(missing.tolist())}.")
    return labels.loc[names].to_numpy()
