"""Checkpoints: all that a training needs to go on, bit by bit, where it was stopped."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import attrs
import torch
from torch import Tensor

from mvcore import config as configs
from mvcore.data.dataset import MultimodalDataset
from mvcore.errors import CheckpointError
from mvcore.models.base import Model
from mvcore.options import TrainingConfig
from mvcore.storage.writing import whole_file

FILE = "checkpoint.pt"
FORMAT = 1

#: Options that may differ when a training goes on: they change no number.
FREE = ("checkpoint_epochs", "checkpoint_steps", "trackers")


def fingerprint(
    model: Model, data: MultimodalDataset, validation: MultimodalDataset | None, options: TrainingConfig, ranks: int
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


def write(folder: Path, state: Mapping[str, Any]) -> None:
    """Writes a checkpoint whole or not at all; an older one stays until the new one stands."""
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / FILE) as file:
        torch.save({"format": FORMAT, **state}, file)


def read(folder: Path, expected: Mapping[str, Any]) -> dict[str, Any] | None:
    """The checkpoint in a folder, None if there is none.

    Raises:
        CheckpointError: If it is damaged, or of another model, other data or other options; it names what differs.
    """
    file = folder / FILE
    for left in folder.glob(f".{FILE}-*"):  # a process was killed while it wrote these
        left.unlink(missing_ok=True)
    state = _load(file)
    if state is None:
        return None
    stored = json.loads(state["fingerprint"])
    if differences := list(_differences(stored, json.loads(json.dumps(expected)))):
        shown = "\n  ".join(differences[:8])
        raise CheckpointError(
            f"{str(file)!r} is of another training. What differs (there, here):\n  {shown}\n"
            "Choose another folder, or give the training the same model, data and options.",
            path=file,
        )
    return state


def weights(folder: str | os.PathLike[str], which: Literal["best", "last"] = "last") -> dict[str, Tensor]:
    """The weights in a folder's checkpoint.

    Args:
        folder: The folder that ``fit`` was given.
        which: ``last``: those it goes on from; ``best``: those of the best epoch so far of the stage under way, or,
            of a finished training, those it ended with.

    Raises:
        CheckpointError: If there is no checkpoint, or it is damaged.
    """
    file = Path(folder) / FILE
    state = _load(file)
    if state is None:
        raise CheckpointError(f"{str(folder)!r} holds no checkpoint.", path=file)
    found: dict[str, Tensor] = state["model"] if which == "last" or state["kept"] is None else state["kept"]
    return found


def random_states() -> dict[str, Tensor]:
    """The state of torch's global generators on this rank."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def restore_random_states(states: Mapping[str, Tensor]) -> None:
    """Puts torch's global generators back."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def _load(file: Path) -> dict[str, Any] | None:
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except (RuntimeError, OSError, EOFError, BadZipFile, pickle.UnpicklingError, ValueError) as fault:
        raise CheckpointError(f"{str(file)!r} is damaged: {fault}. Remove it to start anew.", path=file) from fault
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{str(file)!r} is no checkpoint of this version of mvcore.", path=file)
    return state


def _summary(data: MultimodalDataset) -> dict[str, Any]:
    """Numbers that other rows are unlikely to share."""
    batch = data.batch()
    sums = {m: [float(batch.x[m].double().sum()), float(batch.x[m].double().square().sum())] for m in batch.names}
    return {"rows": len(data), "observed": {m: len(batch.x[m]) for m in batch.names}, "sums": sums}


def _differences(one: Any, other: Any, path: str = "") -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in [*one, *(k for k in other if k not in one)]:
            yield from _differences(one.get(key), other.get(key), f"{path}.{key}" if path else key)
    elif one != other:
        yield f"{path}: {one!r}, {other!r}"
