"""Batches that lack modalities of a model, as views do."""

from __future__ import annotations

import torch

from mvcore.data.batch import Batch
from mvcore.data.schema import Schema


def widened(batch: Batch, schema: Schema, like: torch.Tensor) -> Batch:
    """The same rows with every modality of a schema; of those that the batch does not hold there are 0 observations.

    Args:
        batch: The rows.
        schema: The model's modalities.
        like: A tensor of the model's precision.
    """
    if set(schema.names) <= set(batch.names):
        return batch
    x = dict(batch.x)
    for m in schema:
        dtype = like.dtype if m.categories is None else torch.long
        x.setdefault(m.name, torch.zeros(0, *m.shape, dtype=dtype, device=batch.device))
    x = {m: x[m] for m in schema.names}
    return batch.with_values(x, torch.stack([batch.column(m) for m in schema.names], 1), batch.cells)
