"""Threads of the host while a device trains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

#: Threads that select batches from rows on the host: one reads some 4 GB/s, a step of images may take more.
SELECTING = 4


@contextmanager
def few_threads(device: torch.device, *, selects: bool = True) -> Iterator[None]:
    """Inside, few threads for operations on the host, if the training is elsewhere; afterwards as many as before.

    What the host does between two steps is too little to be divided among all cores: threads that wait for it take them
    from other trainings on the machine.

    Args:
        device: Where the training is.
        selects: Whether batches are selected on the host.
    """
    before = torch.get_num_threads()
    few = before if device.type == "cpu" else min(before, SELECTING if selects else 1)
    torch.set_num_threads(few)
    try:
        yield
    finally:
        torch.set_num_threads(before)
