"""The check of padded batches: a step that can be captured computes what one of packed rows does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mvcore.data.batch import Batch
from mvcore.data.padded import PaddedBatch, padded
from mvcore.models.base import Model
from mvcore.testing.checks import modes, same
from mvcore.testing.noise import fixed_noise
from mvcore.training.capturable import Capturable

if TYPE_CHECKING:
    from mvcore.testing.conformance import Case

Step = tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]


def padding(case: Case) -> None:
    """A padded batch has the loss, terms and gradients of the packed one, whatever pads it, or the step refuses it."""
    model = case.stirred()
    if not model.takes_padded:
        return
    half = case.batch.select(case.batch.observed[:, 0])  # the first modality is in every row
    for stage in model.stages():
        for batch in (case.batch, half, case.batch.select(case.batch.observed.all(1))):
            for _ in modes(model, batch, stage.name):
                compare(model, batch, stage.name)


def compare(model: Model, batch: Batch, stage: str | None = None) -> int | None:
    """Asserts that padded and packed rows give the same; the number of operations of the padded step, None if refused.

    Args:
        model: The model, in float64.
        batch: Packed rows.
        stage: The stage whose loss is compared.
    """
    whole = _step(model, batch, stage)
    counts = []
    for shift in (0, 1):
        filled = _with_known_columns(padded(batch, shift=shift), batch)
        watch = Capturable(batch.device, [*model.parameters(), *filled.x.values(), filled.observed])
        try:
            _step(model, filled, stage)  # what is made once for all batches is made here
            with watch:
                again = _step(model, filled, stage)
        except Exception:  # whatever the model does that a padded batch refuses; the training then packs
            return None
        counts.append(watch.count)
        same(again[0], whole[0], f"the loss of a padded batch, shift {shift}, beside that of the packed one")
        for kind, here, there in (("term", again[1], whole[1]), ("gradient of", again[2], whole[2])):
            for name in here.keys() | there.keys():
                value = here[name] if name in here else torch.zeros_like(there[name])
                same(value, there.get(name, value * 0), f"{kind} {name} of padded rows, shift {shift}, beside packed")
    return counts[0]


def _step(model: Model, batch: Batch, stage: str | None) -> Step:
    torch.manual_seed(0)
    model.zero_grad(set_to_none=True)
    with fixed_noise():
        output = model(batch, stage=stage)
        output.loss.backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return output.loss.detach(), output.terms, gradients


def _with_known_columns(batch: PaddedBatch, packed: Batch) -> PaddedBatch:
    """Without a mask where every row has the modality, as of a data set in which all rows have it."""
    for name in packed.names:
        if bool(packed.column(name).all()):
            batch.masks[name] = None
    return batch
