"""A folder of tables, one file a modality, whatever wrote them: ids are text, as written, and in the first column."""

from __future__ import annotations

import json
import logging
import lzma
import zlib
from collections.abc import Callable, Collection, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from mvcore.data.reading import Reading
from mvcore.data.roles import check_separated, stray_text
from mvcore.data.tables import listed, listed_problems, pandas
from mvcore.errors import DataError, MissingExtraError
from mvcore.extras import require

_LOG = logging.getLogger(__name__)
_TEXT = {".csv": ",", ".tsv": "\t"}
_PACKED = {"": None, ".gz": "gzip", ".bz2": "bz2", ".xz": "xz"}
#: Endings of the files that are read, in any case.
ENDINGS = (*(text + packed for text in _TEXT for packed in _PACKED), ".parquet", ".xlsx")
_FAULTS = (OSError, ValueError, ImportError, EOFError, KeyError, zlib.error, lzma.LZMAError, BadZipFile)


def read_folder(
    folder: Path, say: Callable[[str], object] = _LOG.warning, reading: Reading | None = None
) -> dict[str, Any]:
    """The DataFrames of a folder by the names of their files, ``labs.csv`` as ``labs``, their ids, text, the index.

    Ids are in the first column; of a Parquet file they may be the index that pandas stored. Hidden files are not
    looked at.

    Args:
        folder: The folder.
        say: Told of each file that is no table, and of tables that share no id; by default a warning is logged.
        reading: How the files are written.

    Raises:
        DataError: If the folder has no table, two of one name, or one that cannot be read.
    """
    reading = reading or Reading()
    try:
        files = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    except OSError as fault:
        raise DataError(f"The folder of tables {str(folder)!r} cannot be read: {fault}.") from fault
    found: dict[str, Any] = {}
    for file in files:
        ending = next((e for e in sorted(ENDINGS, key=len, reverse=True) if file.name.lower().endswith(e)), None)
        if ending is None or not file.is_file():
            say(f"{file.name!r} in {str(folder)!r} was not read: it is no table ({', '.join(ENDINGS)}).")
            continue
        name = file.name[: -len(ending)]
        if name in found:
            raise DataError(f"{str(folder)!r} has two tables called {name!r}; keep one of them.")
        found[name] = _read(file, ending, reading)
    if not found:
        raise DataError(f"{str(folder)!r} has no table; expected a file for each modality: {', '.join(ENDINGS)}.")
    if unknown := [m for m in reading.sheets if m not in found]:
        raise DataError(f"sheets names {unknown[0]!r}, which is no table; there are {listed(found, 12)}.")
    for one, other in combinations(found, 2):
        a, b = found[one].index, found[other].index
        if len(a) and len(b) and not len(a.intersection(b)):
            say(f"{one!r} and {other!r} share no id; their first are {a[0]!r} and {b[0]!r}.")
    return found


def _read(file: Path, ending: str, reading: Reading) -> Any:
    try:
        if ending == ".parquet":
            return _parquet(file, reading.ids)
        return _excel(file, reading) if ending == ".xlsx" else _text(file, ending, reading)
    except (DataError, MissingExtraError):
        raise
    except UnicodeDecodeError as fault:
        raise DataError(
            f"{str(file)!r} cannot be read as a table: it is no text in the encoding {reading.encoding!r}, {fault}. If "
            "it is text, say in which: [data] encoding = 'cp1252'."
        ) from fault
    except _FAULTS as fault:
        raise DataError(f"{str(file)!r} cannot be read as a table: {fault}.") from fault


def _text(file: Path, ending: str, reading: Reading) -> Any:
    pd, kind = pandas(), ending[:4]
    separator = reading.separator if kind == ".csv" and reading.separator is not None else _TEXT[kind]
    how: Any = {"sep": separator, "compression": _PACKED[ending[4:]], "encoding": reading.encoding}
    # the first line alone, for pandas renames what stands twice; and as text, for ids are what is written
    header = pd.read_csv(file, header=None, nrows=1, dtype=str, keep_default_na=False, **how).iloc[0].tolist()
    rows = pd.read_csv(file, header=None, skiprows=1, nrows=1, dtype=str, **how) if _has_rows(file, how) else None
    if rows is not None and rows.shape[1] == len(header) + 1:  # R writes no name above the ids
        header = ["", *header]
    names = [str(name) for name in header]
    check_separated(str(file), names, separator)
    at = _place_of_ids(file, names, reading.ids)
    read: Any = {"header": None, "skiprows": 1, "names": list(range(len(names))), "index_col": False, **how}
    ids = pd.read_csv(file, usecols=[at], dtype=str, keep_default_na=False, **read)[at]
    frame = pd.read_csv(file, **read, **reading.of_numbers()).set_axis(names, axis=1)
    return _indexed(file, frame, ids, at)


def _has_rows(file: Path, how: Any) -> bool:
    return len(pandas().read_csv(file, header=None, nrows=2, names=[0], usecols=[0], dtype=str, **how)) > 1


def _excel(file: Path, reading: Reading) -> Any:
    pd = pandas()
    require("openpyxl", "frames", f"The spreadsheet {file.name!r}")
    with pd.ExcelFile(file, engine="openpyxl") as book:
        sheet = _sheet(file, book.sheet_names, reading.sheets.get(file.name[: -len(".xlsx")]))
        frame = pd.read_excel(book, sheet_name=sheet, **reading.of_numbers())
        if not frame.shape[1]:
            return _indexed(file, frame)
        at = _place_of_ids(file, [str(name) for name in frame.columns], reading.ids)
        ids = pd.read_excel(book, sheet_name=sheet, usecols=[at], dtype=str, keep_default_na=False).iloc[:, 0]
    return _indexed(file, frame, ids, at)


def _sheet(file: Path, sheets: Sequence[str], wanted: str | None) -> str:
    if wanted is None and len(sheets) != 1:
        raise DataError(
            f"{str(file)!r} has {len(sheets)} sheets, {listed(sheets)}; make a file of each, or say which one to read: "
            f"[data] sheets = {{ {file.name[: -len('.xlsx')]} = {sheets[0]!r} }}."
        )
    if wanted is not None and wanted not in sheets:
        raise DataError(f"{str(file)!r} has no sheet {wanted!r}; it has {listed(sheets, 12)}.")
    return sheets[0] if wanted is None else wanted


def _place_of_ids(file: Path, names: Sequence[str], ids: str | None) -> int:
    if ids is None:
        return 0
    if names.count(ids) != 1:
        raise DataError(f"{str(file)!r} has no column {ids!r} of ids, or several; it has {listed(names, 12)}.")
    return names.index(ids)


def _parquet(file: Path, ids: str | None = None) -> Any:
    """Pandas stores an index under its name, or says that it was a range; others store columns alone."""
    parquet = require("pyarrow.parquet", "frames", f"The file {file.name!r}")
    metadata = parquet.read_schema(file).metadata or {}
    stored = json.loads(metadata.get(b"pandas", b"{}")).get("index_columns", [])
    frame = pandas().read_parquet(file)
    if any(isinstance(column, str) for column in stored) and (ids is None or ids == frame.index.name):
        return frame.set_axis(_ids(file, frame.index), axis=0)
    return _indexed(file, frame, at=_place_of_ids(file, [str(name) for name in frame.columns], ids))


def _indexed(file: Path, frame: Any, ids: Any = None, at: int = 0) -> Any:
    """The table with a column, or what was read of it as text, as the index."""
    if frame.shape[1] < 2:
        raise DataError(f"{str(file)!r} needs a column of ids and one of values; got {frame.shape[1]} columns.")
    first = frame.iloc[:, at] if ids is None else ids
    others = [i for i in range(frame.shape[1]) if i != at]
    return frame.iloc[:, others].set_axis(_ids(file, pandas().Index(first)), axis=0)


def _ids(file: Path, index: Any) -> Any:
    """Ids as text; integers as they are written."""
    pd = pandas()
    if index.nlevels > 1 or pd.api.types.is_float_dtype(index.dtype) or pd.api.types.is_bool_dtype(index.dtype):
        raise DataError(
            f"{str(file)!r}: the first column, or the stored index, must hold the ids, text or integers; "
            f"{index.name!r} holds {index.dtype}."
        )
    lacks = index.isna() | (index.astype(str) == "")
    return pd.Index([None if gap else str(i) for i, gap in zip(index, lacks, strict=True)], dtype=object)


def with_categories(
    frames: dict[str, Any], categorical: Collection[str], reading: Reading | None = None
) -> dict[str, Any]:
    """The tables of a folder, those of some modalities with their columns of text as categories.

    Args:
        frames: What ``read_folder`` gives.
        categorical: The modalities that hold categories.
        reading: How the files are written, for what is said of text among numbers.

    Raises:
        DataError: If another table has a column of text.
    """
    held = {m: [c for i, c in enumerate(f.columns) if _is_text(f.iloc[:, i])] for m, f in frames.items()}
    among = [
        problem
        for m, f in frames.items()
        for i in range(f.shape[1])
        if m not in categorical and _is_text(f.iloc[:, i]) and (problem := stray_text(m, f, i, reading or Reading()))
    ]
    problems = among or [
        f"the table {m!r} has text in the columns {listed(columns)}; leave them out of the file, write numbers, or, if "
        f"the table holds categories, say so in the config: [data] likelihoods = {{ {m} = 'categorical' }}"
        for m, columns in held.items()
        if columns and m not in categorical
    ]
    if problems:
        raise DataError("\n  ".join(["The tables hold text that is no number:", *listed_problems(problems)]))
    return {m: f.astype("category") if held[m] and m in categorical else f for m, f in frames.items()}


def _is_text(column: Any) -> bool:
    dtype = column.dtype
    if isinstance(dtype, pandas().CategoricalDtype):
        return False
    return bool(pandas().api.types.infer_dtype(column, skipna=True) in ("string", "mixed", "mixed-integer"))
