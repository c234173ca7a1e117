"""The folder of a run, which may come from anyone: what it says, and which data it may have read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mvcore.config.reading import JSON_LIMIT, parse_json, read_bounded
from mvcore.errors import DataError, ModelFileError

#: What a run leaves in its folder, and where its evaluation may be put.
FILES = ("config.json", "checkpoint", "history.json", "model", "report")


def config_of_run(path: Path) -> dict[str, Any]:
    """The tables that a run was asked for with.

    Raises:
        ModelFileError: If the folder is not that of a run.
        FileAccessError: If the system does not let it be read.
    """
    try:
        tables = read_json(path / "config.json")
    except (FileNotFoundError, NotADirectoryError):
        raise ModelFileError(f"{str(path)!r} is not the folder of a run: it has no config.json.", path=path) from None
    if isinstance(tables, dict) and {"mvcore", "schema", "model"} <= set(tables):
        raise ModelFileError(
            f"{str(path)!r} is a saved model, which knows no data; give the folder of its run, which `mvcore train` "
            "left, or name a folder of tables by --data.",
            path=path,
        )
    if not isinstance(tables, dict) or not all(isinstance(tables.get(name), dict) for name in ("data", "model")):
        raise ModelFileError(f"{str(path)!r} is not the folder of a run: its config.json is another's.", path=path)
    return tables


def read_json(file: Path) -> Any:
    """The value of a JSON file of a run.

    Raises:
        FileNotFoundError: If there is none.
        ModelFileError: If it is damaged.
        FileAccessError: If the system does not let it be read.
    """
    try:
        return parse_json(read_bounded(file, JSON_LIMIT))
    except ModelFileError:
        raise
    except ValueError as error:
        raise ModelFileError(f"{str(file)!r} is damaged: {error}.", path=file) from error


def check_folder(folder: Path, tables: Mapping[str, Any]) -> None:
    """Refuses a folder that a training with these tables must not write into.

    It may be new, empty, or that of a run of the same tables; a run that trained nothing yet may get other tables.

    Raises:
        ModelFileError: If it holds something that no run leaves, or the training of other tables.
    """
    names = sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")) if folder.exists() else []
    if not names:
        return
    if other := [name for name in names if name not in FILES]:
        raise ModelFileError(
            f"{str(folder)!r} holds {other[0]!r}, which no run leaves; choose a folder that is new or empty.",
            path=folder,
        )
    before = config_of_run(folder)
    if before != tables and any((folder / name).exists() for name in ("checkpoint", "model")):
        differ = sorted(name for name in {*before, *tables} if before.get(name) != tables.get(name))
        raise ModelFileError(
            f"{str(folder)!r} holds a run of another config: [{'], ['.join(differ)}] differ. Choose another folder, or "
            "give the config of that run.",
            path=folder,
        )


def check_near(folder: str, run: Path) -> None:
    """Refuses a folder of tables that a run may name only because a stranger wrote it.

    A user's own run names a folder below the one that the user works in, or beside the run. Neither the home folder nor
    one above it counts, for everything is below them.

    Raises:
        DataError: If it, or what a link in it leads to, is elsewhere.
    """
    where, home = _real(Path(folder)), _real(Path.home())
    near = [base for base in (_real(Path.cwd()), _real(run).parent) if not home.is_relative_to(base)]
    if not any(where.is_relative_to(base) for base in near):
        raise DataError(
            f"The run {str(run)!r} names the data in {str(where)!r}, which is neither below the current folder nor "
            f"beside the run. A run can come from anyone, so nothing was read. If you mean these data, say so: "
            f"--data {folder!r}."
        )
    if not _is_folder(where):
        raise DataError(f"The run {str(run)!r} names the data in {str(where)!r}, where there is no folder; see --data.")
    for file in where.iterdir():
        if not any(_real(file).is_relative_to(base) for base in near):
            raise DataError(
                f"{str(file)!r} is a link to {str(_real(file))!r}, which is neither below the current folder nor "
                f"beside the run {str(run)!r}, which can come from anyone. If you mean these data, say so: "
                f"--data {folder!r}."
            )


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # such as a name that is too long
        return False


def _real(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{str(path)!r} is no path of a folder: {error}.") from error
