"""The processes that train together: joined, or refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import distributed

from mvcore.errors import TrainingError
from mvcore.options import TrainingConfig


def make_accelerator(options: TrainingConfig, folder: Path | None) -> Accelerator:
    """What accelerate finds, the processes of a launcher joined also where there is no device but the CPU.

    Raises:
        TrainingError: If they are not joined.
    """
    # accelerate keeps the precision of the first accelerator of a process for all others, and refuses another one
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != options.precision:
        AcceleratorState._reset_state()
    log_with = list(options.trackers) or None
    # without cpu=True accelerate leaves processes on a machine without a device apart, and says nothing
    cpu = any(size > 1 for _, size in _launched()) and not _has_device()
    accelerator = Accelerator(
        cpu=cpu, mixed_precision=options.precision, log_with=log_with, project_dir=folder or "runs"
    )
    check_joined(accelerator)
    return accelerator


def check_joined(accelerator: Accelerator) -> None:
    """Raises a TrainingError if a launcher started other processes than those the accelerator has joined."""
    for source, size in _launched():
        if size != accelerator.num_processes:
            raise TrainingError(
                f"{source} is {size}, but the accelerator joins {accelerator.num_processes} process(es), so each would "
                "train alone and all would write the same files. On CPUs join them by Accelerator(cpu=True), made "
                "before any other accelerator of the process, or leave accelerator=… to mvcore.fit; to train in this "
                "process alone, start it without torchrun, or unset WORLD_SIZE, RANK and LOCAL_RANK."
            )


def _launched() -> Iterator[tuple[str, int]]:
    """How many processes there are to join, by each source that says it."""
    if distributed.is_available() and distributed.is_initialized():
        yield "The size of torch.distributed's process group", distributed.get_world_size()
    if (said := os.environ.get("WORLD_SIZE", "")) != "":
        if not (said.isascii() and said.isdigit() and int(said) > 0):
            raise TrainingError(
                f"The environment variable WORLD_SIZE is {said!r}, expected the number of processes that train "
                "together; torchrun sets it. Unset it to train in this process alone."
            )
        yield "The environment variable WORLD_SIZE", int(said)


def _has_device() -> bool:
    """Whether there is a device that processes can train on together; Apple's has no backend for that."""
    device = torch.accelerator.current_accelerator()
    return device is not None and device.type != "mps" and torch.accelerator.is_available()
