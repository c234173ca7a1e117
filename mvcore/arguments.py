"""Checks of what public functions are given: one sentence that names the argument, before any work."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from operator import index
from typing import TYPE_CHECKING, Any

from mvcore.errors import DataError

if TYPE_CHECKING:
    import numpy as np


def count(name: str, value: Any, least: int = 1, most: int = 2**31 - 1) -> int:
    """A whole number, of at least so much, and at most so much.

    Raises:
        DataError: For anything else; a bool or a float is no whole number.
    """
    try:
        number = index(value)
    except (TypeError, RuntimeError, OverflowError):  # RuntimeError: a tensor that holds no int64
        number = least - 1
    if isinstance(value, bool) or number < least:
        raise DataError(f"{name} must be at least {least}, and a whole number; got {shown(value)}.")
    if number > most:
        raise DataError(f"{name} must be at most {most}; got {shown(value)}.")
    return number


def seed(name: str, value: Any) -> int:
    """A seed that torch takes.

    Raises:
        DataError: For anything but a whole number from 0 to 2^63 − 1.
    """
    return count(name, value, 0, 2**63 - 1)


def real(name: str, value: Any, *, finite: bool = False) -> float:
    """A number, which a range may be asked of.

    Raises:
        DataError: For anything else, and for NaN and infinity if it has to be finite.
    """
    try:
        number = math.nan if isinstance(value, bool) or not isinstance(value, Real) else float(value)
    except OverflowError:
        raise DataError(f"{name} must be a number that a float holds; got {shown(value)}.") from None
    if isinstance(value, bool) or not isinstance(value, Real) or (finite and not math.isfinite(number)):
        raise DataError(f"{name} must be a {'finite ' if finite else ''}number; got {shown(value)}.")
    return number


def flag(name: str, value: Any) -> bool:
    """A flag; a text such as 'no' would count as True.

    Raises:
        DataError: If it is neither True nor False.
    """
    if not isinstance(value, bool):
        raise DataError(f"{name} must be True or False; got {shown(value)}.")
    return value


def mapping(name: str, value: Any) -> Mapping[Any, Any]:
    """A mapping; of None an empty one.

    Raises:
        DataError: For anything else.
    """
    if value is not None and not isinstance(value, Mapping):
        raise DataError(f"{name} must be a dict or None; got {shown(value)}.")
    return value or {}


def array(name: str, value: Any) -> np.ndarray[Any, Any]:
    """An array of what may be one.

    Raises:
        DataError: If its parts differ in length, or can't be values of an array.
    """
    import numpy as np

    try:
        return np.asarray(value)
    except (ValueError, TypeError, OverflowError) as fault:
        raise DataError(f"{name} must be an array; got {shown(value)}.") from fault


def shown(value: Any) -> str:
    """A value for an error: what it is, in one short line."""
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
