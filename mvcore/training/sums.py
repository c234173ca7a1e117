"""What an epoch adds up, on the device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from mvcore.losses.base import LossOutput


@final
class Sums:
    """Sums over the rows of an epoch of the loss and its terms, and the first step at which each was not finite."""

    def __init__(self, names: Sequence[str] = (), totals: Tensor | None = None, first: Tensor | None = None) -> None:
        self.names, self.totals, self.first = list(names), totals, first

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
