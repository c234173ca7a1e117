"""What a training is made of while it is under way, listed once: a checkpoint holds this and nothing else."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, final

import attrs
from attrs import define, field, frozen
from torch import Tensor

from mvcore.checked import Checked


@final
@define(kw_only=True)
class Progress:
    """How far a training has come."""

    history: list[dict[str, Any]] = field(factory=list)
    """One table an epoch."""
    step: int = 0
    """Steps of the whole training."""
    stage: int = 0
    """The stage under way."""
    epoch: int = 0
    """Epochs that it has had."""
    batch: int = 0
    """Batches that the epoch under way has had."""
    best: float = math.inf
    """The smallest validation loss of the stage."""
    waited: int = 0
    """Epochs since then."""
    kept: dict[str, Tensor] | None = None
    """The weights of that epoch; None without validation rows."""

    def next_stage(self) -> None:
        """Goes on to the beginning of the next stage."""
        self.stage, self.epoch, self.batch = self.stage + 1, 0, 0
        self.best, self.waited, self.kept = math.inf, 0, None

    def plain(self) -> dict[str, Any]:
        """What a checkpoint keeps of it; the history as text, which is what its reader trusts least."""
        return {**attrs.asdict(self, recurse=False), "history": json.dumps(self.history)}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Progress:
        """What ``plain`` gave, again."""
        return cls(**{**plain, "history": json.loads(plain["history"])})


@final
@frozen(kw_only=True)
class State(Checked):
    """A training between two steps."""

    fingerprint: str
    """What it is a training of: JSON."""
    progress: Mapping[str, Any]
    """``Progress``, as plain values."""
    model: Mapping[str, Tensor]
    """The weights."""
    optimizer: Mapping[str, Any] | None
    """The optimizer's state; None after the last stage."""
    schedule: Mapping[str, Any] | None
    """The learning rate's schedule."""
    scaler: Mapping[str, Any] | None
    """The scale of gradients in fp16."""
    ranks: tuple[Mapping[str, Any], ...]
    """Of each rank: the states of its generators, and the sums of the epoch under way."""
