"""The folder of a sweep: whose it is, and where its trials are. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mvcore.errors import ModelFileError
from mvcore.runs.folder import read_json
from mvcore.sweeps.config import Plan
from mvcore.sweeps.store import Store, store_of

#: What may be another when a sweep goes on: it changes no trial.
FREE = ("trials", "resources", "retries", "concurrent", "address", "keep", "retrain")


def check_folder(folder: Path, plan: Plan, resume: bool) -> None:
    """Refuses a folder that a sweep of these tables must not write into.

    Raises:
        ModelFileError: If it holds something else, another sweep, or one that is not to go on.
    """
    names = sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")) if folder.exists() else []
    if not names:
        return
    if "sweep.json" not in names:
        raise ModelFileError(
            f"{str(folder)!r} holds {names[0]!r}, and no sweep; choose a folder that is new or empty.", path=folder
        )
    if not resume:
        raise ModelFileError(
            f"{str(folder)!r} holds a sweep already; go on with resume=True, or choose another folder.", path=folder
        )
    before, now = asked_in(folder), plan.plain
    differ = sorted(name for name in {*before, *now} if _essential(name, before) != _essential(name, now))
    if differ:
        raise ModelFileError(
            f"{str(folder)!r} holds another sweep: [{'], ['.join(differ)}] differ. Choose another folder, or give the "
            f"tables of that sweep; of [sweep], {', '.join(FREE)} may differ.",
            path=folder,
        )


def _essential(name: str, tables: Mapping[str, Any]) -> Any:
    table = tables.get(name, {})
    return {key: value for key, value in table.items() if key not in FREE} if name == "sweep" else table


def asked_in(folder: Path) -> dict[str, Any]:
    """The tables of the sweep in a folder.

    Raises:
        ModelFileError: If it is not the folder of a sweep.
    """
    try:
        tables = read_json(folder / "sweep.json")
    except (FileNotFoundError, NotADirectoryError):
        raise ModelFileError(
            f"{str(folder)!r} is not the folder of a sweep: it has no sweep.json.", path=folder
        ) from None
    if not isinstance(tables, dict) or not all(
        isinstance(tables.get(name), dict) for name in ("data", "space", "sweep")
    ):
        raise ModelFileError(f"{str(folder)!r} is not the folder of a sweep: its sweep.json is another's.", path=folder)
    return tables


def store_in(plan: Plan, folder: Path) -> Store:
    """Where the trials are: in the folder, or below the storage, under the folder's name."""
    name = folder.absolute().name
    return store_of(str(folder / "trials") if plan.sweep.storage is None else f"{plan.sweep.storage}/{name}/trials")
