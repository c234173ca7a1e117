"""Small integers and booleans are held in their own width; a batch that is read of them has the width of all others."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from mvcore.data.batch import Batch
from mvcore.data.schema import ModalitySpec, Schema

#: Kinds of numbers that are held as they come: a float32 has all their values.
NARROW = (torch.bool, torch.uint8, torch.int8, torch.int16)

#: Values of a block of observations: 2**17 are 512 KiB.
VALUES = 2**17


def as_read(x: Tensor, spec: ModalitySpec) -> Tensor:
    """Observations as models take them: float32, or int64 of categories; themselves, unless they are narrow."""
    if x.dtype not in NARROW:
        return x
    return x.float() if spec.categories is None else x.long()


def as_read_batch(batch: Batch, schema: Schema) -> Batch:
    """A batch with its observations as models take them."""
    if not any(x.dtype in NARROW for x in batch.x.values()):
        return batch
    return batch.with_values({m: as_read(x, schema[m]) for m, x in batch.x.items()}, batch.observed, batch.cells)


def blocks(batch: Batch, spec: ModalitySpec) -> Iterator[tuple[Tensor, Tensor | None]]:
    """The observations of a modality as models take them, in blocks of rows, with the masks of their known cells."""
    x, known = batch.values(spec.name)
    step = max(1, VALUES // spec.size)
    for start in range(0, max(1, len(x)), step):
        cells = None if known is None else known[start : start + step]
        yield as_read(x[start : start + step], spec), cells
