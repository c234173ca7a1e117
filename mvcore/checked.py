"""Classes of settings that refuse what does not fit when they are made, with every problem in one ConfigError."""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Mapping, Sequence
from functools import cache
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

import attrs

from mvcore.errors import ConfigError, MvcoreError, nearest


class _CheckedType(ABCMeta):  # so that a class may be abstract too
    """Makes instances of attrs classes, or one error of ours that names the fields."""

    if not TYPE_CHECKING:  # a type checker reads the class's own arguments

        def __call__(cls, *args: Any, **fields: Any) -> Any:
            try:
                made = super().__call__(*args, **fields)
            except MvcoreError:
                raise
            except (TypeError, ValueError, ArithmeticError, AttributeError, LookupError, RecursionError) as fault:
                raise ConfigError(_problems(cls, args, fields, fault), cls.__name__) from fault
            if faults := _misfits(cls, {n: getattr(made, n) for n in _types(cls)}):
                raise ConfigError(faults, cls.__name__)
            return made


class Checked(metaclass=_CheckedType):
    """Base of attrs classes whose fields must hold what their types say, whatever else a validator asks.

    A list may stand for a tuple, and a number of another library for one of Python's.
    """

    __slots__ = ()


def _problems(cls: type, args: Sequence[Any], fields: Mapping[str, Any], fault: Exception) -> list[str]:
    """What is wrong with the arguments of a class that could not be made; of a wrong type, not what came of it."""
    known = {str(field.alias): field for field in attrs.fields(cls) if field.init} if attrs.has(cls) else {}
    given = {**dict(zip(known, args, strict=False)), **fields}
    unknown = [f"{name}: {_unknown(name, known)}" for name in given if name not in known]
    misfits = _misfits(cls, {field.name: given[name] for name, field in known.items() if name in given})
    if isinstance(fault, ValueError):  # a validator's own words
        return [_text(fault)]
    return [*unknown, *misfits] or [_text(fault)]


def _unknown(name: str, known: Mapping[str, Any]) -> str:
    near = nearest(name, known)
    return f"unknown key, did you mean {near!r}?" if near else f"unknown key, expected {', '.join(known) or 'none'}"


def _text(fault: Exception) -> str:
    # The validators of attrs put their message first, before the parts it was made of.
    message = fault.args[0] if fault.args and isinstance(fault.args[0], str) else f"{type(fault).__name__}: {fault}"
    return " ".join(message.split())


def _misfits(cls: type, values: Mapping[str, Any]) -> list[str]:
    types = _types(cls)
    return [
        f"{name}: expected {_named(types[name])}, got {value!r}"
        for name, value in values.items()
        if name in types and not _fits(value, types[name])
    ]


@cache
def _types(cls: type) -> dict[str, Any]:
    """The types of the fields that arguments set; none where they can't be resolved, as of classes inside functions."""
    if not attrs.has(cls):
        return {}
    try:
        hints = get_type_hints(cls)
    except (NameError, TypeError):
        return {}
    return {field.name: hints[field.name] for field in attrs.fields(cls) if field.init and field.name in hints}


def _fits(value: Any, type_: Any) -> bool:
    origin, args = get_origin(type_), get_args(type_)
    if origin in (Union, UnionType):
        return any(_fits(value, arm) for arm in args)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in args)
    if origin is tuple:
        return isinstance(value, (tuple, list)) and _fits_parts(value, args)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        pairs = value.items() if isinstance(value, Mapping) else [(None, None)]
        return isinstance(value, Mapping) and all(_fits(k, args[0]) and _fits(v, args[1]) for k, v in pairs)
    return _fits_class(value, type_)


def _fits_parts(value: Sequence[Any], args: tuple[Any, ...]) -> bool:
    if args[-1] is not ...:
        return len(value) == len(args) and all(map(_fits, value, args))
    if args[0] in (str, bool, int, float):  # the names of a million columns, at once
        return all(_is_kind(kind, args[0]) for kind in set(map(type, value)))
    return all(_fits(part, args[0]) for part in value)


def _fits_class(value: Any, type_: Any) -> bool:
    if type_ is Any or not isinstance(type_, type):  # a variable or a callable: nothing to ask
        return True
    return _is_kind(type(value), type_)


def _is_kind(kind: type, type_: type) -> bool:
    if type_ in (int, float):
        return issubclass(kind, Integral if type_ is int else Real) and not issubclass(kind, bool)
    return issubclass(kind, type_)


def _named(type_: Any) -> str:
    origin, args = get_origin(type_), get_args(type_)
    if origin in (Union, UnionType):
        return " or ".join(_named(arm) for arm in args)
    if origin is Literal:
        return " or ".join(repr(choice) for choice in args)
    if origin is tuple:
        return f"a tuple of {_named(args[0])}"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"a table of {_named(args[1])}"
    return "None" if type_ is NoneType else getattr(type_, "__name__", repr(type_))
