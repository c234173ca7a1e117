"""Whether a training is still sound: loss and weights finite; asked once an epoch and before each checkpoint."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import torch
from accelerate import Accelerator
from torch import Tensor

from mvcore.errors import TrainingError
from mvcore.losses.base import LossOutput
from mvcore.models.base import Model
from mvcore.training.sums import Sums

_ADVICE = "Lower the learning rate, clip the gradient (clip_norm), or look for extreme values in the data."


class NotFiniteError(TrainingError):
    """A loss or weights that are not finite.

    Args:
        message: What is not finite, and where it began.
        step: The number of the step that it began in, counted from 0.
    """

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message, step)
        self.message, self.step = message, step

    def text(self) -> str:
        """What is not finite, and what to do."""
        return f"{self.message} {_ADVICE}"


@final
class Watch:
    """Looks whether loss and weights are finite, and keeps a copy of the last weights that were.

    Args:
        model: The model.
        accelerator: Its ranks.
    """

    def __init__(self, model: Model, accelerator: Accelerator) -> None:
        self.model, self.accelerator = model, accelerator
        self._good: dict[str, Tensor] = {}

    def keep(self) -> None:
        """Takes the weights for good."""
        state = self.model.state_dict()
        if self._good.keys() != state.keys():
            self._good = {name: value.clone() for name, value in state.items()}
        for name, value in state.items():
            self._good[name].copy_(value)

    def put_back(self) -> None:
        """Gives the model the last weights that were good."""
        if self._good:
            self.model.load_state_dict(self._good)

    def check(self, sums: Sums, steps: int, where: str) -> None:
        """Takes the weights for good, if they and the losses so far are finite; the host waits for the device.

        Args:
            sums: The losses of the epoch under way.
            steps: Steps made.
            where: The epoch and the stage, for an error.

        Raises:
            NotFiniteError: If not; it names terms or weights, modalities, epoch and step.
        """
        self._check_losses(sums, where)
        self._check_weights(steps, where)
        self.keep()

    def _check_losses(self, sums: Sums, where: str) -> None:
        assert sums.first is not None
        first = self.accelerator.gather(sums.first[None]).amin(0)
        if not bool((first < math.inf).any()):
            return
        began = float(first.min())  # one term's infinity is another's in the next step
        bad = [n for n, step in zip(sums.names, first.tolist(), strict=True) if step == began]
        raise NotFiniteError(
            f"The loss is not finite in {where}; {terms_text(bad)} It began in step {int(began) + 1} of the training.",
            int(began),
        )

    def _check_weights(self, steps: int, where: str) -> None:
        state = {n: v for n, v in self.model.state_dict().items() if v.is_floating_point() or v.is_complex()}
        if not state:
            return
        faults = self.accelerator.reduce(torch.stack([~v.isfinite().all() for v in state.values()]).float(), "sum")
        if bad := [name for name, fault in zip(state, faults.tolist(), strict=True) if fault]:
            shown = ", ".join(bad[:5]) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
            whose = sorted({m for name in bad for m in name.split(".")[1:2]} & set(self.model.schema.names))
            raise NotFiniteError(
                f"The weights are not finite in {where}, although the loss was: {shown}.{_modalities(whose)} "
                f"Step {steps} of the training, the last one, made them so.",
                steps - 1,
            )


def check_validation(output: LossOutput, steps: int, where: str) -> float:
    """The loss of a batch of validation rows.

    Raises:
        NotFiniteError: If it is not finite.
    """
    value = float(output.loss)
    if not math.isfinite(value):
        bad = [name for name, term in output.terms.items() if not bool(term.isfinite().all())]
        raise NotFiniteError(
            f"The validation loss is not finite ({value}) in {where}; {terms_text(['loss', *bad])} "
            f"{steps} steps had been made.",
            steps,
        )
    return value


def terms_text(bad: Sequence[str]) -> str:
    """The terms that are not finite, and their modalities, in sentences."""
    return f"terms that are not: {', '.join(bad)}.{_modalities(sorted({n.partition('/')[2] for n in bad if '/' in n}))}"


def _modalities(names: Sequence[str]) -> str:
    return f" Modalities: {', '.join(names)}." if names else ""
