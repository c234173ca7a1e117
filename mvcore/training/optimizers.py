"""Optimizers by name."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

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
