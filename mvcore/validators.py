"""Checks of the fields of configs, and of the arguments of what is built by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, get_args

from attrs import Attribute

from mvcore.errors import ConfigError, nearest

T = TypeVar("T")

__all__ = [
    "all_positive",
    "check_choice",
    "not_negative",
    "per_modality",
    "positive",
    "ranged",
    "share",
    "widths",
]


def positive(instance: Any, attribute: Attribute[Any], value: Any) -> None:
    """Refuses a value that is not above 0; None is left alone."""
    if value is not None and not value > 0:
        raise ValueError(f"{attribute.name} must be greater than 0, got {value!r}")


def not_negative(instance: Any, attribute: Attribute[Any], value: Any) -> None:
    """Refuses a value below 0."""
    if not value >= 0:
        raise ValueError(f"{attribute.name} must be 0 or greater, got {value!r}")


def all_positive(instance: Any, attribute: Attribute[Any], value: Any) -> None:
    """Refuses widths that are not above 0."""
    if not all(v > 0 for v in value):
        raise ValueError(f"{attribute.name} must hold positive widths, got {value!r}")


def ranged(low: float, high: float, *, above: bool = False) -> Callable[[Any, Attribute[Any], Any], None]:
    """A validator that refuses what is not in [low, high], NaN among it; None is left alone.

    Args:
        low: The least value.
        high: The greatest one.
        above: Whether ``low`` itself is refused too.
    """

    def check(instance: Any, attribute: Attribute[Any], value: Any) -> None:
        if value is None or (low <= value <= high and not (above and value == low)):
            return
        bracket = "(" if above else "["
        raise ValueError(f"{attribute.name} must be in {bracket}{low:g}, {high:g}], got {value!r}")

    return check


def widths(instance: Any, attribute: Attribute[Any], value: Any) -> None:
    """Refuses widths that are none at all or not above 0."""
    if not value:
        raise ValueError(f"{attribute.name} must hold one width or more, got {value!r}")
    all_positive(instance, attribute, value)


def share(instance: Any, attribute: Attribute[Any], value: Any) -> None:
    """Refuses a value outside [0, 1)."""
    if not 0 <= value < 1:
        raise ValueError(f"{attribute.name} must be in [0, 1), got {value!r}")


def check_choice(name: str, value: object, choices: Any) -> None:
    """Refuses an argument that is none of some names.

    Args:
        name: The argument.
        value: What was given.
        choices: A ``Literal``, or the names.

    Raises:
        ConfigError: If it is none of them.
    """
    names = get_args(choices) or tuple(choices)
    if value in names:
        return
    near = nearest(value, names) if isinstance(value, str) else None
    expected = " or ".join(filter(None, (", ".join(map(repr, names[:-1])), repr(names[-1]))))
    raise ConfigError([f"{name}: expected {expected}, got {value!r}" + (f", did you mean {near!r}?" if near else "")])


def per_modality(field: str, value: T | Mapping[str, T], names: Sequence[str], default: T) -> dict[str, T]:
    """What each modality has of a field that holds one value for all, or a value for each that it names.

    Args:
        field: Its name, for errors.
        value: What it holds.
        names: The modalities.
        default: The value of a modality that a mapping leaves out.

    Raises:
        ConfigError: If it names a modality that there is not.
    """
    if not isinstance(value, Mapping):
        return dict.fromkeys(names, value)
    if unknown := sorted(set(value) - set(names)):
        raise ConfigError([f"{field}: unknown modality {m!r} (the data has {', '.join(names)})" for m in unknown])
    return {m: value.get(m, default) for m in names}
