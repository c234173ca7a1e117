"""The processes of one training: how many were launched, that accelerate joined them, and what each of them draws."""

from __future__ import annotations

import os

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast
from torch import Tensor, nn

from mvcore.errors import TrainingError
from mvcore.options import TrainingConfig


def launched() -> int:
    """How many processes a launcher such as torchrun says that it has started; 1 without one.

    Raises:
        TrainingError: If it says so in a way that processes cannot be joined by.
    """
    size = os.environ.get("WORLD_SIZE") or "1"
    if not (size.isascii() and size.isdecimal()) or int(size) < 1:
        raise TrainingError(f"The environment variable WORLD_SIZE is {size!r}; a launcher sets it to 1 or more.")
    if int(size) > 1 and "RANK" not in os.environ:
        raise TrainingError(
            f"The environment variable WORLD_SIZE says that there are {size} processes, but RANK, which says which of "
            "them this is, is not set. Start them with torchrun, or unset WORLD_SIZE."
        )
    return int(size)


def is_first() -> bool:
    """Whether this process is the one that writes; also before the processes are joined."""
    return os.environ.get("RANK", "0") == "0"


def make_accelerator(options: TrainingConfig, folder: str | os.PathLike[str] | None) -> Accelerator:
    """Where to train: on what accelerate finds, joined with the other processes that were launched.

    By itself accelerate does not join processes that have no accelerator device: each would train alone.
    """
    joined_on_cpu = launched() > 1 and not _has_device()
    # accelerate keeps the precision of the first accelerator of a process for all others, and refuses another one
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != options.precision:
        AcceleratorState._reset_state()
    # a broadcast of the buffers before each step took as long as a tenth of a step; see ``same_buffers``
    joined = DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True)
    return Accelerator(
        kwargs_handlers=[joined],
        cpu=joined_on_cpu,
        mixed_precision=options.precision,
        log_with=list(options.trackers) or None,
        project_dir=folder or "runs",
    )


def check_ranks(accelerator: Accelerator) -> None:
    """Refuses to train beside other processes without knowing of them: each would train a model of its own.

    Raises:
        TrainingError: If not all processes that were launched are joined.
    """
    if (size := launched()) != accelerator.num_processes:
        raise TrainingError(
            f"{size} processes were launched, but accelerate joined {accelerator.num_processes}, so each would train "
            "a model of its own and overwrite the others' checkpoints. Give fit no accelerator; where there is no GPU "
            "one of your own must be Accelerator(cpu=True), before anything else of accelerate is used."
        )


def same_buffers(model: nn.Module, accelerator: Accelerator) -> None:
    """Gives all processes the buffers of the first one, which some models may write to in training."""
    if accelerator.num_processes == 1:
        return
    by_kind: dict[torch.dtype, list[Tensor]] = {}
    for buffer in model.buffers():
        by_kind.setdefault(buffer.dtype, []).append(buffer)
    for buffers in by_kind.values():  # one message for each kind of numbers
        together = broadcast(torch.cat([b.flatten() for b in buffers]))
        for buffer, part in zip(buffers, together.split([b.numel() for b in buffers]), strict=True):
            buffer.copy_(part.view_as(buffer))


def _has_device() -> bool:
    """Whether there is a device whose processes can be joined; those of Apple's GPU can't."""
    return torch.accelerator.is_available() and torch.accelerator.current_accelerator().type != "mps"  # type: ignore[union-attr]
