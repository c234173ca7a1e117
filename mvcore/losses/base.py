"""What losses share: their output, and the warm-up of β."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, final

import torch
from torch import Tensor, nn

from mvcore.errors import DataError

if TYPE_CHECKING:
    from mvcore.losses.passes import Pass


@final
@dataclass
class LossOutput:
    """What training minimises. A stdlib dataclass, for DistributedDataParallel looks into no other class."""

    loss: Tensor
    """Mean over the rows of the batch, in nats, a scalar."""
    terms: dict[str, Tensor] = field(default_factory=dict)
    """Parts to read, detached scalars; those of an ELBO sum to the loss."""

    @classmethod
    def from_rows(cls, rows: dict[str, Tensor]) -> LossOutput:
        """The sum of terms ``(B,)``, each taken as its mean over the rows; 0 for a batch without rows."""
        means = torch.stack(list(rows.values())).sum(1) / max(1, len(next(iter(rows.values()))))
        return cls(means.sum(), dict(zip(rows, means.detach().unbind(), strict=True)))


class Loss(Protocol):
    """A training objective of a ``MultimodalVAE``; a module, for it may own parameters.

    mypy checks what a builder returns against it.
    """

    def forward(self, p: Pass) -> LossOutput:
        """The mean over all rows of the batch, in nats."""
        ...


def warmed(beta: float, epochs: float, epoch: float | Tensor, cycle: float = 0.0) -> float:
    """β grown linearly from 0 over the first epochs, and anew in each cycle (Fu et al., 2019, arXiv:1903.10145).

    In a step that is captured the epoch is a tensor (), and so is what is returned.

    Args:
        beta: What it grows to.
        epochs: The epochs over which it grows.
        epoch: Epochs trained so far, with a fraction; infinite: after every warm-up.
        cycle: The epochs of a cycle; 0: there is but one.
    """
    if isinstance(epoch, Tensor):
        here = epoch.remainder(cycle) if cycle else epoch
        grown: Any = beta * (here / epochs).clamp(max=1) if epochs else beta
        return grown  # type: ignore[no-any-return]
    if cycle and math.isfinite(epoch):
        epoch = epoch % cycle
    return beta if epoch >= epochs else beta * epoch / epochs


def check_loss(loss: nn.Module, output: object) -> LossOutput:
    """What a loss returned, if it is a ``LossOutput`` of one number; a DataError that names the loss, if it is not."""
    who = f"The loss {type(loss).__name__}"
    if not isinstance(output, LossOutput):
        raise DataError(f"{who} must return a mvcore.losses.LossOutput; it returned {type(output).__name__}.")
    value: object = output.loss
    if not (isinstance(value, Tensor) and value.ndim == 0):
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise DataError(f"{who} must give a loss of shape (); it gave {got}.")
    return output
