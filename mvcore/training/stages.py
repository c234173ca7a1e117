"""The stages of a training: their epochs, what they freeze, and the order of the rows in an epoch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from mvcore.errors import ConfigError
from mvcore.models.base import Stage
from mvcore.options import TrainingConfig


class frozen:
    """Inside, the stage's frozen modules get no gradient."""

    def __init__(self, stage: Stage) -> None:
        self._parameters = {p for m in stage.frozen for p in m.parameters() if p.requires_grad}

    def __enter__(self) -> None:
        for parameter in self._parameters:
            parameter.requires_grad_(False)

    def __exit__(self, *_: object) -> None:
        for parameter in self._parameters:
            parameter.requires_grad_(True)


def lengths(stages: Sequence[Stage], epochs: int) -> list[tuple[Stage, int]]:
    """Whole epochs for each stage, one or more, in proportion to their shares, with the given sum.

    Raises:
        ConfigError: If there are fewer epochs than stages.
    """
    if epochs < len(stages):
        named = ", ".join(repr(stage.name) for stage in stages)
        raise ConfigError(
            [f"epochs: the model trains in {len(stages)} stages ({named}), each for an epoch or more; got {epochs}"],
            "training",
        )
    total = sum(s.share for s in stages)
    ends = [0, *(round(epochs * sum(s.share for s in stages[: i + 1]) / total) for i in range(len(stages)))]
    counts = [end - begin for begin, end in pairwise(ends)]
    while 0 in counts:  # one of the longest stage's
        counts[counts.index(max(counts))] -= 1
        counts[counts.index(0)] += 1
    return list(zip(stages, counts, strict=True))


def order(size: int, options: TrainingConfig, epoch: int) -> Sequence[Tensor]:
    """The rows of each batch of an epoch, on every rank the same."""
    generator = torch.Generator().manual_seed((options.seed * 1_000_003 + epoch) % 2**63)
    parts: Sequence[Tensor] = torch.randperm(size, generator=generator).split(options.batch_size)
    return parts
