"""Data: batches of observed rows, data sets, schemas, transforms and missingness."""

from typing import TYPE_CHECKING

from mvcore.faces import face

if TYPE_CHECKING:
    from mvcore.data.align import aligned as aligned
    from mvcore.data.batch import Batch as Batch
    from mvcore.data.dataset import MultimodalDataset as MultimodalDataset
    from mvcore.data.frames import from_frames as from_frames, to_frame as to_frame
    from mvcore.data.missing import kept_at_random as kept_at_random, mar as mar, mcar as mcar, mnar as mnar
    from mvcore.data.obs import into_layer as into_layer, into_obsm as into_obsm
    from mvcore.data.rows import (
        Rows as Rows,
        Selected as Selected,
        batches as batches,
        column as column,
        dense as dense,
        known_cells as known_cells,
        packed as packed,
        patterns as patterns,
    )
    from mvcore.data.schema import CovariateSpec as CovariateSpec, ModalitySpec as ModalitySpec, Schema as Schema
    from mvcore.data.sources import (
        from_anndata as from_anndata,
        from_mudata as from_mudata,
        from_torch_dataset as from_torch_dataset,
    )
    from mvcore.data.transforms import Affine as Affine, InputTransform as InputTransform
    from mvcore.data.views import widened as widened
else:
    __all__, __getattr__, __dir__ = face(
        __name__,
        {
            "align": ("aligned",),
            "batch": ("Batch",),
            "dataset": ("MultimodalDataset",),
            "frames": ("from_frames", "to_frame"),
            "missing": ("kept_at_random", "mar", "mcar", "mnar"),
            "obs": ("into_layer", "into_obsm"),
            "rows": ("Rows", "Selected", "batches", "column", "dense", "known_cells", "packed", "patterns"),
            "schema": ("CovariateSpec", "ModalitySpec", "Schema"),
            "sources": ("from_anndata", "from_mudata", "from_torch_dataset"),
            "views": ("widened",),
            "transforms": ("Affine", "InputTransform"),
        },
    )
