"""Optimizers and schedules of the learning rate, by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import lr_scheduler

from mvcore.options import TrainingConfig


def make_optimizer(parameters: Iterable[nn.Parameter], options: TrainingConfig) -> torch.optim.Optimizer:
    """The optimizer that the options name, its other settings torch's."""
    weights, lr, decay = list(parameters), options.lr, options.weight_decay
    if options.optimizer in ("adam", "adamw"):
        adam = torch.optim.AdamW if decay else torch.optim.Adam  # without a decay they are one
        return adam(weights, lr=lr, weight_decay=decay, fused=True)
    if options.optimizer == "nadam":
        return torch.optim.NAdam(weights, lr=lr, weight_decay=decay, decoupled_weight_decay=True)
    if options.optimizer == "radam":
        return torch.optim.RAdam(weights, lr=lr, weight_decay=decay, decoupled_weight_decay=True)
    if options.optimizer == "rmsprop":
        return torch.optim.RMSprop(weights, lr=lr, weight_decay=decay)
    return torch.optim.SGD(weights, lr=lr, weight_decay=decay, momentum=0.9)


def make_schedule(optimizer: torch.optim.Optimizer, options: TrainingConfig, steps: int) -> Any:
    """The schedule that the options name, over so many steps; None for a constant rate."""
    if options.schedule == "cosine":
        return lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    if options.schedule == "one_cycle":
        momentum = "betas" in optimizer.defaults or bool(optimizer.defaults.get("momentum"))
        return lr_scheduler.OneCycleLR(optimizer, options.lr, total_steps=steps + 1, cycle_momentum=momentum)
    if options.schedule == "plateau":
        return lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=10)
    return None


def plain_state(schedule: Any) -> dict[str, Any] | None:
    """A schedule's state without what is no number, such as a function it was built with; None of none."""
    if schedule is None:
        return None
    state = schedule.state_dict()
    return {k: v for k, v in state.items() if v is None or isinstance(v, bool | int | float | str | list)}
