"""Inference that leaves no trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from mvcore.arguments import shown
from mvcore.errors import DataError


@contextmanager
def isolated(model: nn.Module, generator: torch.Generator | None) -> Iterator[None]:
    """Evaluation mode, no gradients, draws seeded from a generator; modes and random states are restored.

    Raises:
        DataError: If the generator is something else, such as a seed.
    """
    if not (generator is None or isinstance(generator, torch.Generator)):
        raise DataError(f"generator must be a torch.Generator; got {shown(generator)}. Of a seed it is made by "
                        "torch.Generator().manual_seed(seed).")  # fmt: skip
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
