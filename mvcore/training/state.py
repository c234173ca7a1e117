"""What a training is made of while it is under way, listed once: a checkpoint holds this and nothing else."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import attrs
from attrs import define, field, frozen
from torch import Tensor

from mvcore.checked import Checked
from mvcore.training.whole import is_number, refuse

#: What a training keeps of the end of its last stage, beside the weights.
_ENDED = ("stage", "epoch", "best", "reference", "waited", "kept")


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
    """The best value of the monitor in the stage, such that smaller is better."""
    reference: float = math.inf
    """The last value that was better than the one before by more than the tolerance."""
    waited: int = 0
    """Epochs since then."""
    kept: dict[str, Tensor] | None = None
    """The weights of the best epoch; None without validation rows."""
    ended: dict[str, Any] | None = None
    """How the last stage ended, so that a finished training can have more epochs: the fields above, and its weights."""

    def next_stage(self) -> None:
        """Goes on to the beginning of the next stage."""
        self.stage, self.epoch, self.batch = self.stage + 1, 0, 0
        self.best, self.reference, self.waited, self.kept = math.inf, math.inf, 0, None

    def end(self, weights: Mapping[str, Tensor]) -> None:
        """Notes how the last stage ended, before the weights of the best epoch take the place of the last ones.

        Args:
            weights: The last ones.
        """
        last = {name: value.detach().clone() for name, value in weights.items()}
        self.ended = {"weights": last, **{name: getattr(self, name) for name in _ENDED}}

    def reopen(self) -> dict[str, Tensor]:
        """Goes back to before the end of the last stage; gives the weights of then."""
        assert self.ended is not None
        ended, self.ended = self.ended, None
        for name, value in ended.items():
            if name != "weights":
                setattr(self, name, value)
        self.batch = 0
        weights: dict[str, Tensor] = ended["weights"]
        return weights

    def plain(self) -> dict[str, Any]:
        """What a checkpoint keeps of it; the history as text, which is what its reader trusts least."""
        return {**attrs.asdict(self, recurse=False), "history": json.dumps(self.history)}

    @classmethod
    def of(cls, plain: Mapping[str, Any], file: Path) -> Progress:
        """What ``plain`` gave, again.

        Raises:
            CheckpointError: If no training can have come that far; it names the file.
        """
        counts = ("step", "stage", "epoch", "batch", "waited")
        refuse(file, [] if set(plain) == {f.name for f in attrs.fields(cls)} else ["progress has other entries"])
        faults = [
            f"progress.{n} is no count" for n in counts if type(plain[n]) is not int or not is_number(plain[n], least=0)
        ]
        faults += [f"progress.{n} is no number" for n in ("best", "reference") if not isinstance(plain[n], float)]
        faults += _faults_of_end(plain["ended"])
        history = _rows(plain["history"])
        refuse(file, faults + (["progress.history has no rows of epochs"] if history is None else []))
        return cls(**{**plain, "history": history})


def _faults_of_end(ended: Any) -> list[str]:
    """What keeps a mapping from saying how a stage ended; the weights in it are looked at beside the model's."""
    if ended is None:
        return []
    if not isinstance(ended, Mapping) or set(ended) != {"weights", *_ENDED}:
        return ["progress.ended has other entries"]
    counts = [n for n in ("stage", "epoch", "waited") if type(ended[n]) is not int or not is_number(ended[n], least=0)]
    numbers = [n for n in ("best", "reference") if not isinstance(ended[n], float)]
    return [f"progress.ended.{n} is no number" for n in [*counts, *numbers]]


def _rows(text: Any) -> list[dict[str, Any]] | None:
    """The history that a text holds; None if it holds none."""
    try:
        rows = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return None
    whole = isinstance(rows, list) and all(
        isinstance(row, dict) and {"epoch", "stage", "loss"} <= set(row) for row in rows
    )
    return rows if whole else None


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
