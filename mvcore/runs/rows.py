"""Tables of new rows for a model that is there, and what a model may say of those it was trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import evolve

if TYPE_CHECKING:
    from mvcore.data.dataset import MultimodalDataset
    from mvcore.models.base import Model
    from mvcore.options import TrainingRecord


def rows_for(model: Model, folder: str | Path, say: Callable[[str], object] | None = None) -> MultimodalDataset:
    """The rows in a folder of tables, as a model has them; ``say`` as for ``read_tables``.

    Raises:
        DataError: If they do not fit the model's schema.
    """
    import mvcore
    from mvcore.data.folders import with_categories
    from mvcore.runs.run import read_tables

    categorical = [spec.name for spec in model.schema if spec.category_names is not None]
    return mvcore.from_frames(with_categories(read_tables(folder, say), categorical), schema=model.schema)


def with_data(record: TrainingRecord | None, table: Mapping[str, Any]) -> TrainingRecord | None:
    """A record that also says which registered data set was read, and how it was split; no paths, which are private."""
    if record is None or not isinstance(table.get("use"), str):
        return record
    return evolve(record, data={name: value for name, value in table.items() if name != "folder" and _is_plain(value)})


def _is_plain(value: Any) -> bool:
    return isinstance(value, (str, int, float, bool))
