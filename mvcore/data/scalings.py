"""The names of scales between data units and networks, read without torch: a curve, and an affine map after it."""

from __future__ import annotations

import math
import re
from typing import Literal, cast, final

from attrs import frozen

from mvcore.errors import nearest

Curve = Literal["log", "log1p", "logit"]
Kind = Literal["standardize", "minmax", "channels", "image"]

_AFFINE = ("standardize", "minmax", "channels", "image")
_BENT = tuple(f"{curve}{after}" for curve in ("log", "log1p") for after in ("", "_standardize", "_channels"))
_LOGIT = re.compile(r"(logit(?:_standardize|_channels)?)\(\s*([^,()]+?)\s*,\s*([^,()]+?)\s*\)")
#: All of them, as an error or a page lists them.
NAMES = (*("none", *_AFFINE), *_BENT, "logit(low, high)", "logit_standardize(low, high)", "logit_channels(low, high)")


@final
@frozen
class Scaling:
    """What a scale does to values in data units."""

    curve: Curve | None
    """What bends them first."""
    affine: Kind | None
    """The affine map after that, fitted on training rows."""
    low: float = 0.0
    """The lower end of what ``logit`` takes."""
    high: float = 1.0
    """The upper end."""


def parse(text: str) -> Scaling:
    """The scale that a name stands for, such as ``standardize``, ``log_standardize`` or ``logit(0, 100)``.

    Raises:
        ValueError: If it is none, or the ends of a logit are no two numbers in order.
    """
    if text == "none":
        return Scaling(None, None)
    if text in _AFFINE:
        return Scaling(None, cast(Kind, text))
    if text in _BENT:
        curve, _, affine = text.partition("_")
        return Scaling(cast(Curve, curve), cast(Kind, affine) if affine else None)
    if (found := _LOGIT.fullmatch(text)) is None:
        near = nearest(text, NAMES)
        hint = f", did you mean {near!r}?" if near else ""
        raise ValueError(f"expected one of {', '.join(NAMES)}; got {text!r}{hint}")
    low, high = _end(found[2], text), _end(found[3], text)
    if not low < high:
        raise ValueError(f"expected logit(low, high) with low below high; got {text!r}")
    _, _, affine = found[1].partition("_")
    return Scaling("logit", cast(Kind, affine) if affine else None, low, high)


def shaped(default: str, shape: tuple[int, ...]) -> str:
    """A default scale for values of a shape: ``standardize`` is for tables, and images have 1, 3 or 4 channels."""
    if not default.endswith("standardize") or len(shape) == 1:
        return default
    if default == "standardize" and len(shape) == 3 and shape[0] in (1, 3, 4):
        return "image"
    return default if default == "log1p_standardize" else default.replace("standardize", "channels")


def _end(text: str, whole: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"expected logit(low, high) with two finite numbers; got {whole!r}")
    return value
