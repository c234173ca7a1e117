"""What ``fit`` is called with: names that it has, and flags and objects of the right kind."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import wraps
from inspect import signature
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from accelerate import Accelerator

from mvcore.arguments import shown
from mvcore.config.converter import unknown_key
from mvcore.errors import ConfigError

P = ParamSpec("P")
R = TypeVar("R")
WHERE = "the arguments of fit"


def known_arguments(function: Callable[P, R]) -> Callable[P, R]:
    """Answers arguments that a function does not have with one ConfigError, which knows near names."""
    known = signature(function)

    @wraps(function)
    def checked(*args: P.args, **named: P.kwargs) -> R:
        if unknown := [name for name in named if name not in known.parameters]:
            raise ConfigError([f"{name}: {unknown_key(name, known.parameters)}" for name in unknown], WHERE)
        try:
            known.bind(*args, **named)
        except TypeError as fault:
            raise ConfigError([str(fault)], WHERE) from None
        return function(*args, **named)

    return checked


def check_flags(**flags: object) -> None:
    """Raises a ConfigError for a flag that is neither True nor False: a text such as 'no' would count as True."""
    faults = [f"{name}: expected True or False, got {shown(v)}" for name, v in flags.items() if not isinstance(v, bool)]
    if faults:
        raise ConfigError(faults, WHERE)


def check_kind(accelerator: object, trackers: object) -> None:
    """Raises a ConfigError for an accelerator that is none, and for the name of one tracker in place of several."""
    if not (accelerator is None or isinstance(accelerator, Accelerator)):
        raise ConfigError([f"accelerator: expected an accelerate.Accelerator, got {shown(accelerator)}"], WHERE)
    if isinstance(trackers, str):
        raise ConfigError([f"trackers: expected several names, such as [{trackers!r}], got {trackers!r}"], WHERE)


def folder_of(checkpoint: object) -> Path | None:
    """The folder of the checkpoints.

    Raises:
        ConfigError: If it is no path.
    """
    if checkpoint is None:
        return None
    try:
        path = os.fsdecode(checkpoint)  # type: ignore[arg-type]
    except TypeError:
        path = "\0"
    if "\0" in path:
        raise ConfigError([f"checkpoint: expected the path of a folder or None, got {shown(checkpoint)}"], WHERE)
    return Path(path)


def plain_number(value: Any) -> Any:
    """A number of another library as one of Python's, which JSON has; anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    try:
        return int(value) if isinstance(value, Integral) else float(value)
    except OverflowError:  # out of any range
        return math.inf
