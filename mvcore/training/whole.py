"""Whether what a checkpoint holds can be the state of a training: it has the parts of one that is under way.

A digest tells damage. What somebody else wrote with a digest of its own is told here, before torch writes it over
memory that is shaped otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mvcore.errors import CheckpointError

_MOST = 2**63  # of a number that torch can hold
_ADAM = (("step",), ("exp_avg", "exp_avg_sq"))
#: What each optimizer keeps of a parameter: numbers, and tensors of its shape.
_STATES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Adam": _ADAM,
    "AdamW": _ADAM,
    "RAdam": _ADAM,
    "NAdam": (("step", "mu_product"), _ADAM[1]),
    "RMSprop": (("step",), ("square_avg",)),
    "SGD": ((), ("momentum_buffer",)),
}


def check_parts(file: Path, found: Any, wanted: Any) -> None:
    """Raises a CheckpointError unless a part of a checkpoint has the keys, lengths, shapes and kinds of another.

    Args:
        file: The checkpoint.
        found: What it holds.
        wanted: What a training has there. Texts and truth values must be the same, numbers may be others.
    """
    refuse(file, list(_differences(found, wanted, "")))


def refuse(file: Path, problems: list[str]) -> None:
    """Raises a CheckpointError if there are problems."""
    if problems:
        raise CheckpointError(
            f"{str(file)!r} is no whole checkpoint: {'; '.join(problems[:3])}. Remove it to start anew.", path=file
        )


def rank_parts(found: Mapping[str, Any], states: Mapping[str, Tensor]) -> dict[str, Any]:
    """What a rank's own part must be like: generators, and the sums of the epoch under way, which name its terms."""
    given, names = found.get("random"), found.get("names")
    random = {name: state for name, state in states.items() if not isinstance(given, Mapping) or name in given}
    if isinstance(given, Mapping):  # of a machine with a GPU, or without
        random |= {name: value for name, value in given.items() if name == "cuda" and isinstance(value, Tensor)}
    terms = names if isinstance(names, list) and all(isinstance(name, str) for name in names) else []
    sums = torch.zeros(len(terms)) if terms else None
    return {"random": {"cpu": states["cpu"], **random}, "names": terms, "totals": sums, "first": sums}


def optimizer_parts(optimizer: torch.optim.Optimizer, found: Any, free: Sequence[str] = ()) -> dict[str, Any]:
    """What the state of an optimizer must be like; a parameter that never had a gradient has none.

    Args:
        optimizer: The optimizer, as it is made.
        found: The state that a checkpoint holds.
        free: What may be otherwise in its groups.
    """
    groups = optimizer.state_dict()["param_groups"]
    there = found.get("param_groups") if isinstance(found, Mapping) else None
    if isinstance(there, (list, tuple)) and len(there) == len(groups):
        for mine, other in zip(groups, there, strict=True):
            mine |= {name: other[name] for name in free if isinstance(other, Mapping) and name in other}
    have = found.get("state", {}) if isinstance(found, Mapping) else {}
    parameters = dict(enumerate(p for group in optimizer.param_groups for p in group["params"]))
    numbers, alike = _STATES[type(optimizer).__name__]
    moments = {
        i: {**{name: torch.zeros(()) for name in numbers}, **{name: p.detach() for name in alike}}
        for i, p in parameters.items()
        if not isinstance(have, Mapping) or i in have
    }
    return {"state": moments, "param_groups": groups}


def _differences(found: Any, wanted: Any, path: str) -> Iterator[str]:
    where = path or "it"
    if isinstance(wanted, Mapping):
        if not isinstance(found, Mapping) or set(found) != set(wanted):
            yield f"{where} has other entries"
            return
        for key, part in wanted.items():
            yield from _differences(found[key], part, f"{path}.{key}" if path else str(key))
    elif isinstance(wanted, (list, tuple)):
        if not isinstance(found, (list, tuple)) or len(found) != len(wanted):
            yield f"{where} has another length"
            return
        for i, (mine, part) in enumerate(zip(found, wanted, strict=True)):
            yield from _differences(mine, part, f"{path}[{i}]")
    elif not _alike(found, wanted):
        yield f"{where} is of another kind"


def _alike(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, Tensor):
        return isinstance(found, Tensor) and found.shape == wanted.shape and found.dtype == wanted.dtype
    if wanted is None or isinstance(wanted, (bool, str)):
        return type(found) is type(wanted) and found == wanted
    return is_number(found)


def is_number(value: Any, *, least: float = -math.inf) -> bool:
    """Whether a value is a number that torch can hold, no smaller than ``least``; NaN is one."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return not value < least and (isinstance(value, float) or abs(value) < _MOST)
