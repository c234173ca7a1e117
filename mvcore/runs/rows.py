"""Tables of new rows for a model that is there, and what a model may say of those it was trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import evolve

from mvcore import config as configs
from mvcore.runs.folder import config_of_run

if TYPE_CHECKING:
    from mvcore.data.dataset import MultimodalDataset
    from mvcore.data.schema import Schema
    from mvcore.models.base import Model
    from mvcore.options import TrainingRecord


def rows_for(
    model: Model, where: str | Path, folder: str | Path, say: Callable[[str], object] | None = None
) -> MultimodalDataset:
    """The rows in a folder of tables, as a model has them.

    Args:
        model: The model.
        where: What it was loaded from; if that is a run, its config says how the files are written.
        folder: The folder of the tables.
        say: As for ``read_tables``.

    Raises:
        DataError: If the tables can't be read, do not fit the model's schema, or lack covariates.
    """
    import mvcore

    return mvcore.from_frames(**_new_tables(where, folder, model.schema, say), schema=model.schema)


def _new_tables(
    where: str | Path, folder: str | Path, schema: Schema, say: Callable[[str], object] | None
) -> dict[str, Any]:
    """Tables of new rows as ``from_frames`` takes them, ``frames`` and ``context``."""
    from mvcore.data.folders import with_categories
    from mvcore.data.roles import as_categories, taken_out
    from mvcore.runs.run import DataTable, read_tables

    wanted = DataTable(folder=str(folder))
    if (Path(where) / "model").exists():
        table = {k: v for k, v in config_of_run(Path(where))["data"].items() if k != "use"}
        wanted = configs.structure_as(DataTable, {**table, "folder": str(folder)}, path="data")
    here_too = {m: sheet for m, sheet in wanted.sheets.items() if (Path(folder) / f"{m}.xlsx").exists()}
    reading = evolve(wanted.reading, sheets=here_too)  # modalities may be absent
    read = read_tables(folder, say, reading)
    here = {column for frame in read.values() for column in frame.columns}
    labels = wanted.labels if wanted.labels in here else None  # new rows need none
    tables, _, context = taken_out(read, labels, [c.name for c in schema.context])
    known = [c for c in wanted.categories if c in here]
    categorical = [spec.name for spec in schema if spec.category_names is not None]
    return {"frames": with_categories(as_categories(tables, known), categorical, reading), "context": context}


def with_data(record: TrainingRecord | None, table: Mapping[str, Any]) -> TrainingRecord | None:
    """A record that also says which registered data set was read, and how it was split; no paths, which are private."""
    if record is None or not isinstance(table.get("use"), str):
        return record
    return evolve(record, data={name: value for name, value in table.items() if name != "folder" and _is_plain(value)})


def _is_plain(value: Any) -> bool:
    return isinstance(value, (str, int, float, bool))
