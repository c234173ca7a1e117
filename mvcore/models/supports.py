"""Whether rows hold what a model can score: observations of its shapes, in the supports of its likelihoods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from mvcore.data.align import check_kind
from mvcore.data.curves import Curve
from mvcore.data.rows import Rows, column
from mvcore.data.schema import ModalitySpec
from mvcore.data.transforms import Bent
from mvcore.errors import DataError

if TYPE_CHECKING:
    from mvcore.models.base import Model


def check_support(model: Model, modality: ModalitySpec, data: Rows) -> None:
    """Raises a DataError for the first known value of a modality that its scales or its likelihood can't take."""
    decoder: Any = dict(model.decoders.items()).get(modality.name)  # a condition has none
    curves: list[tuple[str, Curve]] = []
    if decoder is not None and isinstance(decoder.target, Bent):
        curves.append(("the target", decoder.target.curve))
    if (curve := getattr(model.inputs[modality.name], "curve", None)) is not None:
        curves.append(("the encoder's input", curve))
    first = 0
    for x, known in data.stream(modality.name):
        check_kind(x, modality)
        for what, curve in curves:
            _check_curve(modality, what, curve, x, known, first, data)
        if decoder is not None:
            sound = x if known is None else x.where(known, x.new_tensor(decoder.likelihood.neutral))
            if problem := decoder.likelihood.check(sound):
                raise DataError(f"Modality {modality.name!r}: {problem}.", modality=modality.name)
        first += len(x)


def _check_curve(
    modality: ModalitySpec, what: str, curve: Curve, x: Tensor, known: Tensor | None, first: int, data: Rows
) -> None:
    bad = ~curve.holds(x) if known is None else ~curve.holds(x) & known
    if not bool(bad.any()):
        return
    place = [int(i) for i in bad.nonzero()[0]]
    where = modality.columns[place[1]] if modality.columns is not None else tuple(place[1:])
    raise DataError(
        f"Modality {modality.name!r}: {what} is on the scale of {type(curve).__name__.lower()}s, which takes values "
        f"above {curve.low:g}" + (f" and below {curve.high:g}" if curve.high < float("inf") else "")
        + f"; {int(bad.sum())} are not, first {x[tuple(place)].item():g} in the column {where!r} of "
        f"{_row(first + place[0], modality, data)}. Mask it, or choose another likelihood, target or input.",
        modality=modality.name,
    )  # fmt: skip


def _row(number: int, modality: ModalitySpec, data: Rows) -> str:
    """The row of an observation, by its id where the rows have some."""
    row = int(column(data, modality.name).nonzero()[number])
    return f"row {row}" if data.ids is None else f"the row {data.ids[row]!r}"
