"""Columns of tables that are no features: labels and covariates; and columns that are not what they seem."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mvcore.data.reading import Reading
from mvcore.data.tables import listed, pandas
from mvcore.errors import DataError


def taken_out(frames: Mapping[str, Any], labels: str | None, context: Sequence[str]) -> tuple[dict[str, Any], Any, Any]:
    """The tables without the columns of labels and covariates, the labels as a Series, the covariates as a DataFrame.

    A table that has no other column is left out.

    Args:
        frames: Tables, ids as their index.
        labels: The column of the labels; None for none.
        context: The columns of the covariates.

    Raises:
        DataError: If a column is nowhere, or in several tables, or both label and covariate.
    """
    if labels in context:
        raise DataError(
            f"The column {labels!r} is that of the labels and a covariate; the model must not be told labels."
        )
    named = [*([labels] if labels is not None else []), *context]
    homes = {column: _home(frames, column) for column in named}
    for home in sorted(set(homes.values())):
        _check_once(home, frames[home].index)
    series = {column: frames[home][column] for column, home in homes.items()}
    kept = {m: f.drop(columns=[c for c, home in homes.items() if home == m]) for m, f in frames.items()}
    found = {m: f for m, f in kept.items() if f.shape[1]}
    ids = list(dict.fromkeys(i for f in found.values() for i in f.index))
    if not context:
        return found, _labels(series[labels], ids) if labels is not None else None, None
    known = pandas().DataFrame({c: _as_categories(series[c]).reindex(ids) for c in context})
    return found, _labels(series[labels], ids) if labels is not None else None, known


def as_categories(frames: Mapping[str, Any], columns: Iterable[str]) -> dict[str, Any]:
    """The tables with some columns as categories, whatever they hold.

    Raises:
        DataError: If no table has a column.
    """
    found = dict(frames)
    for column in columns:
        homes = [m for m, frame in frames.items() if column in frame.columns]
        if not homes:
            raise DataError(f"categories names {column!r}, which no table has; there are {_columns(frames)}.")
        for m in homes:
            found[m] = found[m].assign(**{column: found[m][column].astype("category")})
    return found


def stray_text(name: str, frame: Any, position: int, reading: Reading) -> str | None:
    """What a column of numbers with text among them has, quoted with its row; None where most of it is text."""
    text = frame.iloc[:, position].dropna().astype(str).str.strip()
    plain = text if reading.thousands is None else text.str.replace(reading.thousands, "", regex=False)
    plain = plain.str.replace(reading.decimal, ".", regex=False)
    none = pandas().to_numeric(plain, errors="coerce").isna().to_numpy()
    stray = text[none]
    if not len(stray):
        return None
    place = f"in the column {frame.columns[position]!r} of the row {stray.index[0]!r}"
    commas = stray.str.fullmatch(r"-?(\d+|\d{1,3}(\.\d{3})+),\d+")
    if reading.decimal != "," and float(commas.mean()) > 0.5:
        first = stray[commas.to_numpy()]
        return (
            f"the table {name!r} has {first.iloc[0]!r} in the column {frame.columns[position]!r} of the row "
            f"{first.index[0]!r}, a decimal comma: say [data] decimal = ','"
        )
    if 2 * len(stray) > len(text):
        return None
    codes = ", ".join(repr(code) for code in dict.fromkeys(stray.tolist()))
    return (
        f"the table {name!r} has {stray.iloc[0]!r} {place}, text among numbers; if it means that the value is unknown, "
        f"say [data] missing = [{codes[:80]}]"
    )


def check_separated(file: str, names: Sequence[str], separator: str) -> None:
    """Raises a DataError for a file that has one column where another separator would give more."""
    others = [c for c in (";", "\t", "|", ",") if c != separator and c in names[0]] if len(names) == 1 else []
    if others:
        raise DataError(
            f"{file!r} has one column where {separator!r} separates them; its first line is {names[0][:60]!r}. Say "
            f"[data] separator = {others[0]!r}."
        )


def _check_once(name: str, index: Any) -> None:
    if not index.is_unique:
        twice = index[index.duplicated()].unique().tolist()
        raise DataError(f"{name!r} has more than one row with the id {listed(twice)}.")


def _home(frames: Mapping[str, Any], column: str) -> str:
    homes = [m for m, frame in frames.items() if column in frame.columns]
    if not homes:
        raise DataError(f"No table has a column {column!r}; there are {_columns(frames)}.")
    if len(homes) > 1:
        raise DataError(
            f"The column {column!r} of labels or covariates stands in the tables {listed(homes)}; where it is also a "
            "feature a model would be told it. Leave it in one of them."
        )
    return homes[0]


def _columns(frames: Mapping[str, Any]) -> str:
    return listed(dict.fromkeys(str(c) for frame in frames.values() for c in frame.columns), 12)


def _labels(series: Any, ids: list[Any]) -> Any:
    """A label for each id, None where there is none."""
    whole = series.astype(object).reindex(ids)
    return whole.where(whole.notna(), None)


def _as_categories(column: Any) -> Any:
    text = pandas().api.types.infer_dtype(column, skipna=True) == "string"
    return column.astype("category") if text else column
