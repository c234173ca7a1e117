"""Answers that are not finite are no answers: an error names the value that a network could not take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mvcore.data.batch import Batch
from mvcore.errors import DataError

if TYPE_CHECKING:
    from mvcore.models.base import Model


def check_answers(
    model: Model, batch: Batch, what: str, answers: Iterable[Tensor | None], *, first: int = 0, ids: Any = None
) -> None:
    """Raises a DataError for the first row with an answer that is not finite.

    Args:
        model: The model.
        batch: The rows ``(B,)``.
        what: What the answers are, for the error.
        answers: Tensors ``(B, …)``; integers and None are finite.
        first: The number of the first row among all rows of the data.
        ids: The ids of all rows.
    """
    bad = torch.zeros(len(batch), dtype=torch.bool)
    for answer in answers:
        if answer is not None and answer.is_floating_point():
            bad |= ~answer.isfinite().flatten(1).all(1).cpu()
    if not bool(bad.any()):
        return
    row = int(bad.nonzero()[0])
    who = f"Row {first + row}" if ids is None else f"Row {first + row}, id {ids[first + row]!r},"
    raise DataError(
        f"{who} has no finite {what}{_extreme(model, batch, row)}. Mend or mask that value; {int(bad.sum())} of "
        f"{len(bad)} rows of the batch are affected."
    )


def _extreme(model: Model, batch: Batch, row: int) -> str:
    """The value of a row that lies furthest from 0 on the scale that its encoder sees."""
    found: list[tuple[float, str]] = []
    one = batch.select(torch.tensor([row]))
    for name in one.names:
        x, known = one.values(name)
        if len(x) and x.is_floating_point():
            seen = model.inputs[name](x, known)[0].abs()
            place = [int(i) for i in torch.unravel_index(seen.argmax(), seen.shape)]
            where = _place(model.schema[name].columns, place)
            text = f": its value {x[0][tuple(place)].item():g} of {name!r}, {where}, is {float(seen.max()):.3g}"
            found.append((float(seen.max()), f"{text} on the scale of the training rows"))
    return max(found)[1] if found else ""


def _place(columns: Sequence[str] | None, place: Sequence[int]) -> str:
    return f"at position {tuple(place)!r}" if columns is None else f"column {columns[place[0]]!r}"
