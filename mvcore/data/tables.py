"""Single DataFrames: what their columns hold, as numbers with a mask of the known ones, and whether that fits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, final

import numpy as np
from attrs import evolve, frozen

from mvcore.data.checks import LARGEST
from mvcore.data.schema import ModalitySpec
from mvcore.extras import require

Array = np.ndarray[Any, Any]

#: Likelihoods of tables that nothing else is said about.
DEFAULTS = {"category": "categorical", "bool": "bernoulli", "int": "normal", "float": "normal"}
_OBJECTS = {"boolean": "bool", "integer": "int", "floating": "float", "mixed-integer-float": "float"}


def pandas() -> Any:
    """The module, or an error that names the extra it comes with."""
    return require("pandas", "frames", "Data in tables")


def index_of(ids: Any) -> Any:
    """An index of ids as they are: tuples are ids, too, and no levels."""
    return pandas().Index(ids, tupleize_cols=False)


@final
@frozen(kw_only=True)
class Table:
    """One modality's rows, in the order of its DataFrame."""

    ids: Any
    """The index."""
    columns: tuple[str, ...]
    kinds: tuple[str, ...]
    """For each column ``bool``, ``int``, ``float`` or ``category``; ``empty`` where it has no value at all,
    ``unreadable`` where it holds something else, which counts as unknown."""
    values: Array
    """``(n, F)`` in float64: numbers, 0 and 1, codes of categories; 0 where unknown."""
    known: Array
    """``(n, F)`` bool."""
    names: tuple[tuple[Any, ...], ...]
    """For each column the names of its categories; none, where it holds numbers."""


def read(name: str, frame: Any, ids: str | None, problems: list[str]) -> Table | None:
    """Reads a DataFrame; what is wrong with it is added to the problems."""
    before = len(problems)
    if not isinstance(frame, pandas().DataFrame):
        problems.append(f"{name!r} must be a DataFrame; got {type(frame).__name__}")
        return None
    if ids is not None and list(frame.columns).count(ids) != 1:
        problems.append(f"{name!r} has no column {ids!r} of ids, or more than one")
        return None
    frame = frame if ids is None else frame.set_index(ids)
    _check_names(name, frame, problems)
    if len(problems) > before or not _check_ids(name, frame.index, problems):
        return None
    columns = [frame.iloc[:, i] for i in range(frame.shape[1])]
    kinds = [_kind(column) for column in columns]
    problems += [_no_numbers(name, c) for c, kind in zip(columns, kinds, strict=True) if kind == "unreadable"]
    values = np.stack([_numbers(c, k) for c, k in zip(columns, kinds, strict=True)], axis=1)
    _check_infinite(name, frame.index, frame.columns, values, problems)
    categories = [c.cat.categories.tolist() if k == "category" else [] for c, k in zip(columns, kinds, strict=True)]
    return Table(
        ids=frame.index,
        columns=tuple(frame.columns),
        kinds=tuple(kinds),
        values=np.nan_to_num(values),
        known=~np.isnan(values),
        names=tuple(map(tuple, categories)),
    )


def infer(name: str, table: Table, likelihood: str | None, problems: list[str]) -> ModalitySpec | None:
    """The modality that a table describes; what keeps it from being one is added to the problems."""
    before, kinds = len(problems), set(table.kinds) - {"empty", "unreadable"}
    if "unreadable" in table.kinds:
        return None
    if empty := [c for c, known in zip(table.columns, np.any(table.known, axis=0), strict=True) if not known]:
        problems.append(f"{name!r} has columns without any value, which can't be learned: {listed(empty)}; drop them")
    if len(kinds) > 1 and kinds != {"int", "float"}:
        held = (f"{kind} ({listed(_of_kind(table, kind))})" for kind in sorted(kinds))
        problems.append(f"{name!r} mixes types: {', '.join(held)}; make a modality of each type")
    if odd := [c for names in table.names for c in names if type(c) not in (str, int, float, bool)]:
        problems.append(f"{name!r} has categories that are neither text nor numbers, such as {odd[0]!r}")
    if kinds == {"category"} and likelihood not in (None, "categorical"):
        problems.append(f"{name!r} holds categories, which need the likelihood 'categorical'; got {likelihood!r}")
    chosen = likelihood or DEFAULTS[min(kinds, default="float")]
    if chosen == "categorical" and kinds != {"category"} and not _whole(table.values, table.known):
        problems.append(f"{name!r} must hold categories: a categorical dtype, or codes 0, 1, 2, …")
    if len(problems) > before:
        return None
    named = max(map(len, table.names)) or int(table.values.max()) + 1
    return ModalitySpec(
        name=name,
        shape=(len(table.columns),),
        likelihood=chosen,
        categories=named if chosen == "categorical" else None,
        columns=table.columns,
        dtypes=table.kinds,  # type: ignore[arg-type]
        category_names=table.names if kinds == {"category"} else None,
    )


def fitted(table: Table, spec: ModalitySpec, problems: list[str]) -> Table | None:
    """The table with its columns in the order of the modality, and its codes of categories those of the modality."""
    name, before = spec.name, len(problems)
    if spec.columns is None:
        problems.append(f"{name!r} has no names of columns to match a table by; it was made from an array")
        return None
    missing = [c for c in spec.columns if c not in table.columns]
    extra = [c for c in table.columns if c not in spec.columns]
    for what, names in {"lacks": missing, "also has": extra}.items():
        if names:
            problems.append(f"{name!r} {what} the columns {listed(names)}")
    ordered = _reordered(table, [c for c in spec.columns if c in table.columns])
    for i, column in enumerate(ordered.columns):
        _check_column(ordered, i, spec, spec.columns.index(column), problems)
    if len(problems) > before:
        return None
    return ordered if spec.category_names is None else _recoded(ordered, spec.category_names)


def listed_problems(problems: Sequence[str], most: int = 8) -> list[str]:
    """The first problems of many, each shortened, and how many more there are."""
    more = [f"and {len(problems) - most} more"] if len(problems) > most else []
    return [*(p if len(p) <= 500 else f"{p[:499]}…" for p in problems[:most]), *more]


def listed(names: Iterable[Any], most: int = 5) -> str:
    """Some names for an error, the first few of many."""
    each = list(names)
    more = f" and {len(each) - most} more" if len(each) > most else ""
    return ", ".join(repr(n) for n in each[:most]) + more


def _check_names(name: str, frame: Any, problems: list[str]) -> None:
    columns = list(frame.columns)
    if not columns:
        problems.append(f"{name!r} has no columns")
    if odd := [c for c in columns if not isinstance(c, str)]:
        problems.append(
            f"{name!r} has columns whose names are not text: {listed(odd)}; rename them, as by "
            "frame.columns = frame.columns.astype(str)"
        )
    if twice := frame.columns[frame.columns.duplicated()].unique().tolist():
        problems.append(f"{name!r} has more than one column called {listed(twice)}")


def _check_ids(name: str, index: Any, problems: list[str]) -> bool:
    """Whether rows can be told apart well enough to look at the columns."""
    if index.nlevels > 1:
        problems.append(f"{name!r} has an index of {index.nlevels} levels; ids must be one level")
        return False
    if index.hasnans:
        problems.append(f"{name!r} has {int(index.isna().sum())} rows without an id")
    elif twice := index[index.duplicated()].unique().tolist():
        problems.append(f"{name!r} has more than one row with the id {listed(twice)}")
    return True


def _kind(column: Any) -> str:
    types = pandas().api.types
    if isinstance(column.dtype, pandas().CategoricalDtype):
        return "category"
    if bool(column.isna().all()):
        return "empty"
    tests = {"bool": types.is_bool_dtype, "int": types.is_integer_dtype, "float": types.is_float_dtype}
    for kind, is_kind in tests.items():
        if is_kind(column.dtype):
            return kind
    held = types.infer_dtype(column, skipna=True) if column.dtype == object else ""
    return _OBJECTS.get(held, "unreadable")


def _no_numbers(name: str, column: Any) -> str:
    if pandas().api.types.infer_dtype(column, skipna=True) == "string":
        remedy = "holds text; make it a column of categories by astype('category'), or of numbers by pandas.to_numeric"
    else:
        remedy = f"has the dtype {column.dtype}; expected numbers, booleans or categories"
    return f"{name!r}: the column {column.name!r} {remedy}"


def _numbers(column: Any, kind: str) -> Array:
    if kind in ("empty", "unreadable"):
        return np.full(len(column), np.nan)
    if kind == "category":
        codes: Array = column.cat.codes.to_numpy(dtype=np.float64)
        return np.where(codes < 0, np.nan, codes)
    numbers: Array = column.to_numpy(dtype=np.float64, na_value=np.nan)
    return numbers


def _check_infinite(name: str, ids: Any, columns: Sequence[str], values: Array, problems: list[str]) -> None:
    bad = np.abs(values) >= LARGEST  # False of NaN
    if bad.any():
        held = np.asarray(columns)[bad.any(0)].tolist()
        row, column = (int(i) for i in np.argwhere(bad)[0])
        problems.append(
            f"{name!r} has values that are infinite, or too large for 32 bits, in the columns {listed(held)}, such as "
            f"{values[row, column]:g} of {columns[column]!r} in the row {ids[row]!r}; mend them, or make them NaN if "
            "they are not known"
        )


def _of_kind(table: Table, kind: str) -> list[str]:
    return [c for c, k in zip(table.columns, table.kinds, strict=True) if k == kind]


def _whole(values: Array, known: Array) -> bool:
    return bool(((values >= 0) & (values == np.floor(values)) | ~known).all())


def _reordered(table: Table, columns: Sequence[str]) -> Table:
    order = [table.columns.index(c) for c in columns]
    return evolve(
        table,
        columns=tuple(columns),
        kinds=tuple(table.kinds[i] for i in order),
        values=table.values[:, order],
        known=table.known[:, order],
        names=tuple(table.names[i] for i in order),
    )


def _check_column(table: Table, i: int, spec: ModalitySpec, j: int, problems: list[str]) -> None:
    """Column i of the table against column j of the modality."""
    where, kind = f"{spec.name!r}: the column {table.columns[i]!r}", table.kinds[i]
    values, known = table.values[:, i], table.known[:, i]
    if not known.any():
        return
    wanted = spec.dtypes[j] if spec.dtypes is not None else "float"
    # pandas makes floats of integers with gaps, and reads floats that happen to be whole as integers
    number = {kind, wanted} <= {"int", "float"} and (wanted == "float" or (values == np.floor(values)).all())
    if kind != wanted and not number and (spec.dtypes is not None or kind == "category"):
        problems.append(f"{where} holds {kind}, the model was built for {wanted}")
    elif kind == "category" and spec.category_names is not None:
        names = spec.category_names[j]
        if unknown := sorted({table.names[i][int(code)] for code in values[known]} - set(names), key=str):
            problems.append(f"{where} has the unknown categories {listed(unknown)}; known are {listed(names, 20)}")
    elif spec.categories is not None and not (_whole(values, known) and values.max() < spec.categories):
        problems.append(f"{where} must hold codes 0 to {spec.categories - 1} of categories")


def _recoded(table: Table, names: Sequence[Sequence[Any]]) -> Table:
    values = table.values.copy()
    for i, (own, known) in enumerate(zip(table.names, names, strict=True)):
        if own:
            position = {category: code for code, category in enumerate(known)}
            codes = np.array([position.get(category, 0) for category in own], dtype=np.float64)
            values[:, i] = np.where(table.known[:, i], codes[values[:, i].astype(int)], 0)
    return evolve(table, values=values)
