"""How often intervals hold single cells that were hidden; the metric ``interval_coverage`` hides whole modalities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from attrs import frozen
from torch import Tensor

from mvcore import arguments
from mvcore.data.align import aligned
from mvcore.data.batch import Batch
from mvcore.data.dataset import MultimodalDataset
from mvcore.data.rows import Rows, dense, known_cells
from mvcore.errors import DataError
from mvcore.inference.imputation import predictions
from mvcore.models.base import Model


@final
@frozen(kw_only=True)
class CellCoverage:
    """The intervals of the hidden cells of one modality."""

    modality: str
    """The modality."""
    cells: int
    """Hidden cells."""
    coverage: float
    """Share of them that lie in their intervals, limits included."""
    width: float
    """Mean width of the intervals, in data units."""


def cell_coverage(
    model: Model,
    data: Rows,
    *,
    interval: float = 0.9,
    share: float = 0.1,
    K: int = 500,
    seed: int = 0,
    batch_size: int = 512,
) -> list[CellCoverage]:
    """Hides a random share of the known cells, imputes them, and counts how many lie in their intervals.

    All hidden cells of a row are hidden at once. A row keeps what it has where nothing would be left, and loses a
    modality of which no cell is left. Categories have no intervals; their modalities are neither hidden nor reported,
    nor are conditions. Intervals of discrete values hold at least their probability; of booleans they are 0, 1 or both.

    Args:
        model: A trained model.
        data: Rows that the model was not trained on, complete or partial.
        interval: Probability of the intervals.
        share: Probability in (0, 1) of each known cell to be hidden.
        K: Draws for each row; a calibrated model covers ``1 − 2 ⌊(K + 1)(1 − interval)/2⌋ / (K + 1)``.
        seed: Seed of the hidden cells and of the draws.
        batch_size: Most rows imputed at once.

    Raises:
        DataError: If the share is out of its range, no cell was hidden, or the data does not fit the model.
    """
    seed = arguments.seed("seed", seed)
    if not 0 < arguments.real("share", share) < 1:
        raise DataError(f"share must lie between 0 and 1, got {share!r}.")
    data = aligned(data, model.schema)
    view, hidden = _hide_cells(data, model.generated, share, torch.Generator().manual_seed(seed))
    if not hidden:
        raise DataError("No cell was hidden: take more rows, or a larger share.")
    blocks = list(predictions(model, view, interval=interval, K=K, samples=None, seed=seed, batch_size=batch_size))
    found = []
    for name, mask in hidden.items():
        low = torch.cat([block[name].low for block in blocks])[mask]  # type: ignore[misc]
        high = torch.cat([block[name].high for block in blocks])[mask]  # type: ignore[misc]
        truth = dense(data, name)[0][mask]
        inside = ((low <= truth) & (truth <= high)).double().mean()
        width = float((high - low).double().mean())
        found.append(CellCoverage(modality=name, cells=int(mask.sum()), coverage=float(inside), width=width))
    return found


def _hide_cells(
    data: Rows, names: Sequence[str], share: float, generator: torch.Generator
) -> tuple[Rows, dict[str, Tensor]]:
    """The data without the hidden cells, and where they are, ``(n, *shape)`` of each modality that has some."""
    known = {m: known_cells(data, m) for m in data.schema.names}
    left = {}
    for spec in data.schema:
        drawn = torch.rand(known[spec.name].shape, generator=generator) < share
        kept = spec.categories is not None or spec.name not in names
        left[spec.name] = known[spec.name] if kept else known[spec.name] & ~drawn
    bare = ~torch.stack([each.flatten(1).any(1) for each in left.values()]).any(0)
    for name, each in left.items():
        each[bare] = known[name][bare]
    hidden = {m: mask for m, each in left.items() if bool((mask := known[m] & ~each).any())}
    return MultimodalDataset.from_batch(data.schema, _without(data, left), labels=data.labels, ids=data.ids), hidden


def _without(data: Rows, left: dict[str, Tensor]) -> Batch:
    """The rows with those cells alone that are left."""
    observed = torch.stack([each.flatten(1).any(1) for each in left.values()], dim=1)
    x, cells = {}, {}
    for i, (name, known) in enumerate(left.items()):
        rows = observed[:, i]
        values = dense(data, name)[0]
        x[name] = values.where(known, torch.zeros((), dtype=values.dtype))[rows]
        if not bool(known[rows].all()):
            cells[name] = known[rows]
    return data.batch().with_values(x, observed, cells)
