"""Inference that leaves no trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def isolated(model: nn.Module, generator: torch.Generator | None) -> Iterator[None]:
    """Evaluation mode, no gradients, draws seeded from a generator; modes and random states are restored."""
    seed = 0 if generator is None else int(torch.randint(2**62, (), generator=generator, device=generator.device))
    training = [module for module in model.modules() if module.training]
    devices = sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        torch.manual_seed(seed)
        model.eval()
        try:
            yield
        finally:
            for module in training:
                module.training = True
