"""What a training notes in its model, for whoever reads the model's card."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import attrs
import torch

import mvcore
from mvcore.data import rows as rows_of
from mvcore.options import Pattern, TrainingConfig, TrainingRecord

if TYPE_CHECKING:
    from mvcore.data.rows import Rows
    from mvcore.training.loop import Loop

_PATTERNS = 100
#: Options that say where results go, not what they are.
_APART = ("trackers", "checkpoint_epochs", "checkpoint_steps")


def record_of(loop: Loop, data: Rows, validation: Rows | None, options: TrainingConfig) -> TrainingRecord:
    """The record of a training that has ended."""
    patterns = [Pattern(modalities=names, rows=count) for names, count in rows_of.patterns(data).items()]
    history = loop.at.history
    return TrainingRecord(
        rows=len(data),
        validation_rows=0 if validation is None else len(validation),
        patterns=tuple(patterns[:_PATTERNS]),
        other_rows=sum(pattern.rows for pattern in patterns[_PATTERNS:]),
        epochs=len(history),
        loss=float(history[-1]["loss"]) if history else None,
        stopped=loop.stopped,
        device=loop.accelerator.device.type,
        processes=loop.accelerator.num_processes,
        options={name: value for name, value in attrs.asdict(options).items() if name not in _APART},
        versions={"mvcore": mvcore.__version__, "torch": str(torch.__version__), "python": platform.python_version()},
    )
