"""What an epoch adds up, on the device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from mvcore.errors import DataError
from mvcore.losses.base import LossOutput


@final
class Sums:
    """Sums over the rows of an epoch of the loss and its terms, and the first step at which each was not finite."""

    def __init__(self, names: Sequence[str] = (), totals: Tensor | None = None, first: Tensor | None = None) -> None:
        self.names, self.totals, self.first = list(names), totals, first

    def check(self, model: nn.Module, output: object) -> None:
        """Raises a DataError that names the model, if what its ``forward`` gave can't be trained on and added up."""
        who = f"The forward of {type(model).__name__}"
        if not isinstance(output, LossOutput):
            raise DataError(f"{who} must return a mvcore.losses.LossOutput; it returned {type(output).__name__}.")
        values: dict[str, object] = {"loss": output.loss, **output.terms}
        for name, value in values.items():
            if not isinstance(value, Tensor) or value.ndim:
                got = f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
                raise DataError(f"{who} must give {name!r} as a tensor of shape (); it gave one that is {got}.")
        if not output.loss.requires_grad:
            raise DataError(f"{who} gave a loss without a gradient; it must depend on the weights, not detached.")
        if self.names and self.names != ["loss", *output.terms]:
            raise DataError(
                f"{who} must give the same terms for every batch; it gave {', '.join(output.terms) or 'none'}, before "
                f"{', '.join(self.names[1:]) or 'none'}."
            )

    def add(self, output: LossOutput, rows: int, step: int) -> None:
        """Adds one micro-batch; nothing waits for the device."""
        values = torch.stack([output.loss.detach().float(), *(v.float() for v in output.terms.values())])
        if self.totals is None or self.first is None:
            self.names = ["loss", *output.terms]
            self.totals, self.first = torch.zeros_like(values), torch.full_like(values, math.inf)
        self.totals = self.totals + values * rows
        self.first = self.first.minimum(values.new_full((), step).where(~values.isfinite(), math.inf))

    def to(self, device: torch.device) -> None:
        """Moves what is there to a device."""
        if self.totals is not None and self.first is not None:
            self.totals, self.first = self.totals.to(device), self.first.to(device)
