"""Single DataFrames: what their columns hold, as numbers with a mask of the known ones, and whether that fits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, final

import numpy as np
from attrs import evolve, frozen

from mvcore.data import columns as cells
from mvcore.data.checks import LARGEST
from mvcore.data.columns import Array, Block, Facts, Matrix
from mvcore.data.schema import ModalitySpec
from mvcore.extras import require

#: Likelihoods of tables that nothing else is said about.
DEFAULTS = {"category": "categorical", "bool": "bernoulli", "int": "normal", "float": "normal"}
_TYPES = {"b": "bool", "i": "int", "u": "int", "f": "float"}  # of numpy's kinds
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
    block: Block
    """Reads the cells of some rows: numbers, 0 and 1, codes of categories; NaN where unknown."""
    facts: Facts
    """What holds for all of them."""
    names: tuple[tuple[Any, ...], ...]
    """For each column the names of its categories; none, where it holds numbers."""

    @cached_property
    def known(self) -> Array:
        """Which columns ``(F,)`` have a value."""
        return ~np.isnan(self.facts.most)

    @cached_property
    def whole(self) -> Array:
        """Which columns ``(F,)`` have whole numbers alone."""
        return cells.whole(self.block, len(self.ids), len(self.columns))

    def values(self, rows: Array, dtype: Any, *, gaps: bool) -> tuple[Array, Array | None]:
        """The cells at some rows ``(R, F)``, 0 where unknown, and the mask of the known ones; None without gaps."""
        return cells.filled_in(self.block, rows, len(self.columns), dtype, gaps=gaps)


def read(name: str, frame: Any, ids: str | None) -> tuple[Table | None, list[str]]:
    """Reads a DataFrame, or a ``Matrix``, and what is wrong with it; None where that keeps it from being read."""
    if not isinstance(frame, (pandas().DataFrame, Matrix)):
        return None, [f"{name!r} must be a DataFrame; got {type(frame).__name__}"]
    if ids is not None and list(frame.columns).count(ids) != 1:
        return None, [f"{name!r} has no column {ids!r} of ids, or more than one"]
    frame = frame if ids is None or isinstance(frame, Matrix) else frame.set_index(ids)
    if problems := _in_names(name, frame):
        return None, problems
    if (levels := frame.index.nlevels) > 1:
        return None, [f"{name!r} has an index of {levels} levels; ids must be one level"]
    problems, width = _in_ids(name, frame.index), len(frame.columns)
    kinds, block, names, unreadable = _cells(name, frame)
    facts = cells.look(block, len(frame.index), width)
    problems += [*unreadable, *_in_values(name, frame.index, frame.columns, block, facts)]
    held = zip(kinds, ~np.isnan(facts.most), strict=True)
    table = Table(
        ids=frame.index,
        columns=tuple(frame.columns),
        kinds=tuple(kind if known or kind in ("category", "unreadable") else "empty" for kind, known in held),
        block=block,
        facts=facts,
        names=names,
    )
    return table, problems


def _cells(name: str, frame: Any) -> tuple[Sequence[str], Block, tuple[tuple[Any, ...], ...], list[str]]:
    """For each column what it holds, its cells, and the names of its categories; and which can't be read."""
    width = len(frame.columns)
    if isinstance(frame, Matrix):
        return [_TYPES[frame.values.dtype.kind]] * width, cells.of_matrix(frame.values), ((),) * width, []
    dtypes = list(frame.dtypes)
    if not any(isinstance(d, pandas().CategoricalDtype) for d in dtypes):
        of = {d: _kind_of_numbers(d) for d in set(dtypes)}
        if all(of.values()):
            return [of[d] for d in dtypes], cells.of_frame(frame), ((),) * width, []
    columns = [frame.iloc[:, i] for i in range(width)]
    kinds = [_kind(column) for column in columns]
    unreadable = [_no_numbers(name, c) for c, kind in zip(columns, kinds, strict=True) if kind == "unreadable"]
    block = cells.of_arrays([_numbers(c, k) for c, k in zip(columns, kinds, strict=True)])
    names = (tuple(c.cat.categories.tolist()) if k == "category" else () for c, k in zip(columns, kinds, strict=True))
    return kinds, block, tuple(names), unreadable


def infer(name: str, table: Table, likelihood: str | None) -> tuple[ModalitySpec | None, list[str]]:
    """The modality that a table describes, or None and what keeps it from being one."""
    kinds, problems = set(table.kinds) - {"empty", "unreadable"}, []
    if "unreadable" in table.kinds:
        return None, []
    if empty := [c for c, known in zip(table.columns, table.known, strict=True) if not known]:
        problems.append(f"{name!r} has columns without any value, which can't be learned: {listed(empty)}; drop them")
    if len(kinds) > 1 and kinds != {"int", "float"}:
        held = (f"{kind} ({listed(_of_kind(table, kind))})" for kind in sorted(kinds))
        problems.append(f"{name!r} mixes types: {', '.join(held)}; make a modality of each type")
    if odd := [c for names in table.names for c in names if type(c) not in (str, int, float, bool)]:
        problems.append(f"{name!r} has categories that are neither text nor numbers, such as {odd[0]!r}")
    if kinds == {"category"} and likelihood not in (None, "categorical"):
        problems.append(f"{name!r} holds categories, which need the likelihood 'categorical'; got {likelihood!r}")
    chosen = likelihood or DEFAULTS[min(kinds, default="float")]
    if chosen == "categorical" and kinds != {"category"} and not (_positive(table) & table.whole).all():
        problems.append(f"{name!r} must hold categories: a categorical dtype, or codes 0, 1, 2, …")
    if problems:
        return None, problems
    named = max(map(len, table.names)) or int(min(np.nanmax(table.facts.most), LARGEST)) + 1
    spec = ModalitySpec(
        name=name,
        shape=(len(table.columns),),
        likelihood=chosen,
        categories=named if chosen == "categorical" else None,
        columns=table.columns,
        dtypes=table.kinds,  # type: ignore[arg-type]
        category_names=table.names if kinds == {"category"} else None,
    )
    return spec, []


def fitted(table: Table, spec: ModalitySpec) -> tuple[Table | None, list[str]]:
    """The table with its columns in the order of the modality, and its codes of categories those of the modality.

    If it does not fit: None, and why.
    """
    name = spec.name
    if spec.columns is None:
        return None, [f"{name!r} has no names of columns to match a table by; it was made from an array"]
    theirs, mine = {c: i for i, c in enumerate(table.columns)}, {c: j for j, c in enumerate(spec.columns)}
    missing = [c for c in mine if c not in theirs]
    extra = [c for c in theirs if c not in mine]
    both = {"lacks": missing, "also has": extra}.items()
    problems = [f"{name!r} {what} the columns {listed(names)}" for what, names in both if names]
    ordered = _reordered(table, [i for c in mine if (i := theirs.get(c)) is not None])
    for i, column in enumerate(ordered.columns):
        problems += _in_column(ordered, i, spec, mine[column])
    if problems:
        return None, problems
    return ordered if spec.category_names is None else _recoded(ordered, spec.category_names), []


def listed_problems(problems: Sequence[str], most: int = 8) -> list[str]:
    """The first problems of many, each shortened, and how many more there are."""
    more = [f"and {len(problems) - most} more"] if len(problems) > most else []
    return [*(p if len(p) <= 500 else f"{p[:499]}…" for p in problems[:most]), *more]


def listed(names: Iterable[Any], most: int = 5) -> str:
    """Some names for an error, the first few of many."""
    each = list(names)
    more = f" and {len(each) - most} more" if len(each) > most else ""
    return ", ".join(repr(n) for n in each[:most]) + more


def _in_names(name: str, frame: Any) -> list[str]:
    """What is wrong with the names of the columns."""
    columns, problems = list(frame.columns), []
    if not columns:
        problems.append(f"{name!r} has no columns")
    if odd := [c for c in columns if not isinstance(c, str)]:
        problems.append(
            f"{name!r} has columns whose names are not text: {listed(odd)}; rename them, as by "
            "frame.columns = frame.columns.astype(str)"
        )
    if twice := frame.columns[frame.columns.duplicated()].unique().tolist():
        problems.append(f"{name!r} has more than one column called {listed(twice)}")
    return problems


def _in_ids(name: str, index: Any) -> list[str]:
    """What is wrong with the ids."""
    if index.hasnans:
        return [f"{name!r} has {int(index.isna().sum())} rows without an id"]
    twice = index[index.duplicated()].unique().tolist()
    return [f"{name!r} has more than one row with the id {listed(twice)}"] if twice else []


def _kind(column: Any) -> str:
    types = pandas().api.types
    if isinstance(column.dtype, pandas().CategoricalDtype):
        return "category"
    if bool(column.isna().all()):
        return "empty"
    if kind := _kind_of_numbers(column.dtype):
        return kind
    held = types.infer_dtype(column, skipna=True) if column.dtype == object else ""
    return _OBJECTS.get(held, "unreadable")


def _kind_of_numbers(dtype: Any) -> str:
    """``bool``, ``int`` or ``float``; empty for any other dtype."""
    types = pandas().api.types
    tests = {"bool": types.is_bool_dtype, "int": types.is_integer_dtype, "float": types.is_float_dtype}
    return next((kind for kind, holds in tests.items() if holds(dtype)), "")


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


def _in_values(name: str, ids: Any, columns: Sequence[str], block: Block, facts: Facts) -> list[str]:
    """Values that no model can read."""
    if facts.extreme is None:
        return []
    held = np.asarray(columns)[np.fmax(facts.most, -facts.least) >= LARGEST].tolist()
    row, column = facts.extreme
    value = block(slice(row, row + 1))[0, column]
    return [
        f"{name!r} has values that are infinite, or too large for 32 bits, in the columns {listed(held)}, such as "
        f"{value:g} of {columns[column]!r} in the row {ids[row]!r}; mend them, or make them NaN if they are not known"
    ]


def _of_kind(table: Table, kind: str) -> list[str]:
    return [c for c, k in zip(table.columns, table.kinds, strict=True) if k == kind]


def _positive(table: Table) -> Array:
    return ~(table.facts.least < 0)  # True of NaN


def _reordered(table: Table, order: Sequence[int]) -> Table:
    if list(order) == list(range(len(table.columns))):
        return table
    block, facts = table.block, table.facts
    return evolve(
        table,
        columns=tuple(table.columns[i] for i in order),
        kinds=tuple(table.kinds[i] for i in order),
        block=lambda rows: block(rows)[:, order],
        facts=evolve(facts, least=facts.least[order], most=facts.most[order]),
        names=tuple(table.names[i] for i in order),
    )


def _in_column(table: Table, i: int, spec: ModalitySpec, j: int) -> list[str]:
    """What keeps column i of the table from being column j of the modality."""
    if not table.known[i]:
        return []
    where, kind = f"{spec.name!r}: the column {table.columns[i]!r}", table.kinds[i]
    wanted = spec.dtypes[j] if spec.dtypes is not None else "float"
    # pandas makes floats of integers with gaps, and reads floats that happen to be whole as integers
    number = {kind, wanted} <= {"int", "float"} and (wanted == "float" or kind == "int" or bool(table.whole[i]))
    if kind != wanted and not number and (spec.dtypes is not None or kind == "category"):
        return [f"{where} holds {kind}, the model was built for {wanted}"]
    if kind == "category" and spec.category_names is not None:
        names = spec.category_names[j]
        unknown = sorted(_used(table, i, set(table.names[i]) - set(names)), key=str)
        problem = f"{where} has the unknown categories {listed(unknown)}; known are {listed(names, 20)}"
        return [problem] if unknown else []
    if spec.categories is not None and not (
        table.whole[i] and table.facts.least[i] >= 0 and table.facts.most[i] < spec.categories
    ):
        return [f"{where} must hold codes 0 to {spec.categories - 1} of categories"]
    return []


def _used(table: Table, i: int, names: set[Any]) -> set[Any]:
    """Those of some categories of column i that a row has."""
    if not names:
        return names
    codes = table.block(slice(None))[:, i]
    return names & {table.names[i][int(code)] for code in codes[~np.isnan(codes)]}


def _recoded(table: Table, names: Sequence[Sequence[Any]]) -> Table:
    """The table with the codes of other names."""
    changed: dict[int, Array] = {}
    for i, (own, known) in enumerate(zip(table.names, names, strict=True)):
        if own and tuple(own) != tuple(known):
            position = {category: code for code, category in enumerate(known)}
            # the last one is that of NaN
            changed[i] = np.array([*(position.get(category, 0) for category in own), np.nan])
    block = table.block

    def recoded(rows: cells.Rows) -> Array:
        values = block(rows).copy()
        for i, codes in changed.items():
            values[:, i] = codes[np.where(np.isnan(values[:, i]), len(codes) - 1, values[:, i]).astype(int)]
        return values

    return evolve(table, block=recoded) if changed else table
