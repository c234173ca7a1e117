"""Tables of new rows for a model that is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mvcore.data.dataset import MultimodalDataset
    from mvcore.models.base import Model


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
