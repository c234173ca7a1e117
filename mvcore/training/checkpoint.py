"""Checkpoints: all that a training needs to go on, bit by bit, where it was stopped."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

import attrs
from torch import Tensor

from mvcore import config as configs
from mvcore.data.rows import Rows
from mvcore.errors import CheckpointError, ConfigError
from mvcore.models.base import Model
from mvcore.options import TrainingConfig
from mvcore.storage.writing import whole_file
from mvcore.training.archive import before, read_archive, write_archive
from mvcore.training.state import State
from mvcore.validators import check_choice

FILE = "checkpoint.pt"
FORMAT = 2

#: Options that may differ when a training goes on: they change no number.
FREE = ("checkpoint_epochs", "checkpoint_steps", "trackers")

#: Options that may differ in a fork besides.
FORKED = ("lr", "weight_decay", "clip_norm")

#: And where a finished training has more epochs.
EXTENDED = ("schedule", "patience")


class Difference(NamedTuple):
    """A value in which two trainings differ, by its path."""

    path: str
    there: Any
    here: Any

    def __str__(self) -> str:
        return f"{self.path}: {self.there!r}, {self.here!r}"


def fingerprint(
    model: Model, data: Rows, validation: Rows | None, options: TrainingConfig, ranks: int
) -> dict[str, Any]:
    """What a checkpoint and the training that goes on from it must have in common, as plain values."""
    config = None if model.config is None else configs.unstructure(model.config)
    plain = attrs.asdict(options, filter=attrs.filters.exclude(*FREE), recurse=False)
    return {
        "model": {"config": config, "weights": {n: list(v.shape) for n, v in model.state_dict().items()}},
        "schema": configs.unstructure(model.schema),
        "data": _summary(data),
        "validation": None if validation is None else _summary(validation),
        "options": plain,
        "ranks": ranks,
    }


def write(folder: Path, state: State) -> None:
    """Writes a checkpoint whole or not at all; the last one becomes the one before."""
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / FILE) as file:
        write_archive({"format": FORMAT, **attrs.asdict(state, recurse=False)}, file)
        _keep(folder / FILE)


def roll_back(folder: Path) -> None:
    """Puts the checkpoint before the last one in its place, if there is one."""
    with suppress(FileNotFoundError):
        before(folder / FILE).replace(folder / FILE)


def read(folder: Path, expected: Mapping[str, Any], *, fork: bool = False) -> State | None:
    """The checkpoint in a folder, None if there is none.

    Args:
        folder: The folder.
        expected: The ``fingerprint`` of the training that goes on from it.
        fork: Whether the options in ``FORKED``, and weights of losses, may differ.

    Raises:
        CheckpointError: If it is damaged, or of another model, other data or other options; it names what differs.
    """
    file = folder / FILE
    for left in folder.glob(f".{FILE}-*"):  # a process was killed while it wrote these
        left.unlink(missing_ok=True)
    state = _load(file)
    if state is None:
        return None
    may = MayDiffer(finished=state.progress.get("ended") is not None)
    found = [difference for difference in differing(state, expected) if not (fork and may.differ(difference))]
    if found:
        shown = "\n  ".join(map(str, found[:6]))
        hint = f" A fork may differ in {', '.join(FORKED)}, in more epochs and in the weights of the loss; that of a " \
            f"finished training with more epochs also in {', '.join(EXTENDED)}." if fork else ""  # fmt: skip
        raise CheckpointError(
            f"{str(file)!r} is of another training. What differs (there, here):\n  {shown}\n"
            f"Choose another folder, or give the training the same model, data and options.{hint}",
            path=file,
        )
    return state


def forked(state: State, expected: Mapping[str, Any]) -> list[str]:
    """The options in which a fork differs from what it goes on from."""
    differ = {difference.path for difference in differing(state, expected)}
    return [name for name in ("epochs", *FORKED, *EXTENDED) if f"options.{name}" in differ]


def differing(state: State, expected: Mapping[str, Any]) -> list[Difference]:
    """In what a checkpoint's training and another one differ."""
    return list(_differences(json.loads(state.fingerprint), json.loads(json.dumps(expected))))


def weights(folder: str | os.PathLike[str], which: Literal["best", "last"] = "last") -> dict[str, Tensor]:
    """The weights in a folder's checkpoint.

    Args:
        folder: The folder that ``fit`` was given.
        which: ``last``: those it goes on from; ``best``: those of the best epoch so far of the stage under way, or,
            of a finished training, those it ended with.

    Raises:
        CheckpointError: If there is no checkpoint, or it is damaged.
    """
    check_choice("which", which, ("best", "last"))
    file = Path(folder) / FILE
    state = _load(file)
    if state is None:
        raise CheckpointError(f"{str(folder)!r} holds no checkpoint.", path=file)
    kept: dict[str, Tensor] | None = state.progress["kept"]
    return dict(state.model) if which == "last" or kept is None else kept


def _load(file: Path) -> State | None:
    try:
        content = read_archive(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT or any(map(_no_text, content)):
        raise CheckpointError(f"{str(file)!r} is no checkpoint of this version of mvcore.", path=file)
    try:
        return State(**content)
    except ConfigError as fault:
        raise CheckpointError(
            f"{str(file)!r} is no whole checkpoint: {'; '.join(fault.problems)}", path=file
        ) from fault


def _no_text(key: object) -> bool:
    return not isinstance(key, str)


def _keep(file: Path) -> None:
    """Keeps the checkpoint that is there as the one before, so that at every moment there is one in its place."""
    if not file.exists():
        return
    link = file.with_name(f".{file.name}-before")
    link.unlink(missing_ok=True)
    try:
        link.hardlink_to(file)
    except OSError:  # a file system without links
        shutil.copyfile(file, link)
    link.replace(before(file))


_WEIGHTS = re.compile(r"model\.config\.(loss\.|(.*\.)?(alpha|beta\w*|gamma|weight)(\.|$))")


class MayDiffer(NamedTuple):
    """Where a fork may differ from what it goes on from."""

    finished: bool

    def differ(self, difference: Difference) -> bool:
        """In the options of a step, in more epochs, and in the numbers by which losses are weighted."""
        names = FORKED + (EXTENDED if self.finished else ())
        if difference.path in {f"options.{name}" for name in names}:
            return True
        if difference.path == "options.epochs":
            return bool(difference.here > difference.there)
        numbers = isinstance(difference.there, float) or isinstance(difference.here, float)
        return numbers and bool(_WEIGHTS.match(difference.path))


def _summary(data: Rows) -> dict[str, Any]:
    """Numbers that other rows are unlikely to share."""
    sums = {}
    for m in data.schema.names:
        each = [(float(x.double().sum()), float(x.double().square().sum())) for x, _ in data.stream(m)]
        sums[m] = [sum(part) for part in zip(*each, strict=True)]
    counts = dict(zip(data.schema.names, data.observed.sum(0).tolist(), strict=True))
    return {"rows": len(data), "observed": counts, "sums": sums}


def _differences(there: Any, here: Any, path: str = "") -> Iterator[Difference]:
    if isinstance(there, dict) and isinstance(here, dict):
        for key in [*there, *(k for k in here if k not in there)]:
            yield from _differences(there.get(key), here.get(key), f"{path}.{key}" if path else key)
    elif there != here:
        yield Difference(path, there, here)
