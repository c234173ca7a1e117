"""What packed values have to be, whatever the model: as many as are observed, finite, and categories that exist."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mvcore.errors import DataError

#: Numbers have to be smaller: means of some thousand of them must stay below the largest float32, 3.4e38.
LARGEST = 1e32

_BLOCK = 2**19  #: Values looked at at once.


def check_values(
    name: str, values: Tensor, known: Tensor | None, rows: Tensor, categories: int | None = None, ids: Any = None
) -> None:
    """Raises a DataError for the first known value that no model can read, and says where it stands.

    An accelerator would have to be waited for; there nothing is looked at.

    Args:
        name: The modality.
        values: Its packed values ``(n_m, *shape)``.
        known: The mask of the known ones; all, where None.
        rows: Which row has the modality ``(B,)``, bool.
        categories: The number of categories; None for other values.
        ids: The rows' ids.
    """
    if is_sound(values, known, categories):
        return
    sound = _sound(values, categories) if known is None else _sound(values, categories) | ~known
    place = [int(i) for i in (~sound).nonzero()[0]]
    number, value, row = place[0], values[tuple(place)].item(), int(rows.nonzero().squeeze(1)[place[0]])
    who = f"row {row}" if ids is None else f"row {row}, id {ids[row]!r}"
    raise DataError(
        f"Modality {name!r} has {_fault(values, categories)} in {int((~sound).flatten(1).any(1).sum())} observed rows, "
        f"first in number {number + 1} of them: {value!r} at position {tuple(place[1:])!r} of {who}. Mask rows that "
        "are not observed, or fill or mask single missing values.",
        modality=name,
    )


def is_sound(values: Tensor, known: Tensor | None, categories: int | None = None) -> bool:
    """Whether a model can read all known values; arguments as for ``check_values``."""
    if values.device.type != "cpu" or not values.numel():
        return True
    step = max(1, _BLOCK * len(values) // values.numel())  # what is made on the way is as large as what is looked at
    masks = [None] * math.ceil(len(values) / step) if known is None else known.split(step)
    for part, mask in zip(values.split(step), masks, strict=True):
        sound = _sound(part, categories)
        if not bool((sound if mask is None else sound | ~mask).all()):
            return False
    return True


def _fault(values: Tensor, categories: int | None) -> str:
    if categories is not None:
        return f"values that are none of the categories 0 to {categories - 1}"
    return "values too large for 32 bits" if bool(values.isfinite().all()) else "NaN or infinite values"


def _sound(values: Tensor, categories: int | None) -> Tensor:
    if categories is not None:
        return (values >= 0) & (values < categories)
    return values.abs() < LARGEST  # False of NaN


def check_packed(x: Mapping[str, Tensor], observed: Tensor, cells: Mapping[str, Tensor]) -> None:
    """Raises a DataError unless there are as many packed rows as ``observed`` says, and masks of their shape."""
    for name, value in {**x, "observed": observed}.items():
        if not isinstance(value, Tensor):
            raise DataError(f"A Batch holds tensors; {name!r} is {type(value).__name__}. A MultimodalDataset takes "
                            "arrays, and data.batch() is its Batch.")  # fmt: skip
    if observed.dtype != torch.bool or observed.ndim != 2 or observed.shape[1] != len(x):
        raise DataError(
            f"observed must be bool of shape (rows, {len(x)}), a column for each modality; got "
            f"{str(observed.dtype).removeprefix('torch.')} of shape {tuple(observed.shape)}."
        )
    for (name, values), count in zip(x.items(), observed.sum(0).tolist(), strict=True):
        if values.ndim < 2 or len(values) != count:
            raise DataError(
                f"Modality {name!r} is observed in {count} rows, but has packed values of shape {tuple(values.shape)}; "
                "expected (observed rows, *shape). Batch.from_dense packs values that have every row.",
                modality=name,
            )
    for name, known in cells.items():
        if name not in x or known.dtype != torch.bool or known.shape != x[name].shape:
            raise DataError(f"The cells of {name!r} must be bool of the shape of its packed values.", modality=name)
