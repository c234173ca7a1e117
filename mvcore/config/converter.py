"""The strict cattrs converter behind ``config``: plain values to attrs classes, with every fault noted at its field.

The set of field types is closed: bool, int, float, str, ``Literal``, unions, ``tuple[X, ...]``, ``Mapping[str, X]``,
attrs classes, and components, whose class the registry finds by name at each call. (cattrs' ``include_subclasses``
fixes the classes when it is called, so it would miss a plugin.) cattrs dispatches on the types and groups the faults.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import attrs
import cattrs
from cattrs.errors import AttributeValidationNote, ClassValidationError

from mvcore.errors import ConfigError, MvcoreError, nearest
from mvcore.plugins.registry import RESERVED, Registry
from mvcore.plugins.spec import KINDS, ComponentConfig, ComponentSpec

#: What a value that does not fit raises; anything else is a fault of the code and passes through.
FAULTS = (ValueError, TypeError, MvcoreError, ClassValidationError)
_UNIONS, _MAPPINGS = (Union, UnionType), (dict, Mapping)


def make_converter(registry: Registry) -> cattrs.Converter:
    """The converter for the components of a registry; of two hooks that take a type, the later one is asked first."""
    converter = cattrs.Converter()
    hook = converter.register_structure_hook_func
    hook(lambda _: True, _unsupported)
    for type_ in (bool, int, float, str, bytes, Path):  # by class, for cattrs has its own, lax hooks for these classes
        converter.register_structure_hook(type_, _unsupported if type_ in (bytes, Path) else _scalar)
    hook(lambda type_: _origin(type_) is Literal, _literal)
    hook(lambda type_: _origin(type_) in _UNIONS, partial(_union, converter))
    hook(lambda type_: _origin(type_) is tuple, partial(_tuple, converter))
    hook(lambda type_: _origin(type_) in _MAPPINGS, partial(_mapping, converter))
    hook(attrs.has, partial(_attrs_class, converter))
    hook(lambda type_: _kind_of(type_) is not None, partial(_component, converter, registry))
    return converter


def problems(fault: BaseException, path: str = "") -> Iterator[str]:
    """Each fault in what the converter raised, as ``"dotted.path: what is wrong"``."""
    if isinstance(fault, ConfigError):
        yield from (f"{path}: {problem}" if path else problem for problem in fault.problems)
    elif isinstance(fault, ClassValidationError):
        for part in fault.exceptions:
            yield from problems(part, ".".join(filter(None, (path, _part_name(part)))))
    else:
        yield f"{path}: {_text(fault)}" if path else _text(fault)


def unknown_key(name: object, known: Iterable[str]) -> str:
    """What to say of a key that no field has."""
    names = list(known)
    near = nearest(str(name), names)
    return f"unknown key, did you mean {near!r}?" if near else f"unknown key, expected {_listed(names) or 'none'}"


class _Faults:
    """Collects the faults of the parts of one value, each noted with the name of its part."""

    def __init__(self, type_: type) -> None:
        self._type = type_
        self._found: list[Exception] = []

    @contextmanager
    def at(self, name: str) -> Iterator[None]:
        try:
            yield
        except FAULTS as fault:
            fault.add_note(AttributeValidationNote(f"at {name!r} of a {self._type.__name__}", name, None))
            self._found.append(fault)

    def raise_all(self) -> None:
        if self._found:
            raise ClassValidationError(f"A {self._type.__name__} does not fit", self._found, self._type)


def _unsupported(_value: Any, type_: Any) -> Any:
    raise TypeError(
        f"a field of type {type_!r} cannot be read from a file; give it one of the types of mvcore.config.converter"
    )


def _scalar(value: Any, type_: type[Any]) -> Any:
    # By exact type: True is an int to isinstance, and a numpy scalar would not be written back as JSON.
    if type(value) is not type_ and not (type_ is float and type(value) is int):
        raise _wrong(type_, value)
    if type_ is float and not abs(value) <= sys.float_info.max:
        raise ValueError(f"expected a finite float, got {value!r}")
    return type_(value)


def _literal(value: Any, type_: Any) -> Any:
    if any(type(value) is type(choice) and value == choice for choice in get_args(type_)):
        return value
    near = nearest(str(value), (choice for choice in get_args(type_) if isinstance(choice, str)))
    raise ValueError(f"{_wrong(type_, value)}" + (f", did you mean {near!r}?" if near else ""))


def _union(converter: cattrs.Converter, value: Any, type_: Any) -> Any:
    if value is None and NoneType in get_args(type_):
        return None
    deep: Exception | None = None
    for arm in get_args(type_):
        try:
            return converter.structure(value, arm)
        except (ClassValidationError, MvcoreError) as fault:
            deep = deep or fault  # the value was meant for this arm, so its faults say more than a list of the arms
        except FAULTS:
            continue
    raise deep or _wrong(type_, value)


def _tuple(converter: cattrs.Converter, value: Any, type_: Any) -> tuple[Any, ...]:
    if not isinstance(value, (tuple, list)):
        raise _wrong(type_, value)
    args = get_args(type_)
    types = args[:1] * len(value) if args[-1] is ... else args
    if len(types) != len(value):
        raise ValueError(f"expected {len(types)} values, got {value!r}")
    if len({*types, *map(type, value)}) == 1 and types[0] in (str, bool):  # the names of a million columns
        return tuple(value)
    faults, parts = _Faults(tuple), []
    for index, (part, part_type) in enumerate(zip(value, types, strict=True)):
        with faults.at(str(index)):
            parts.append(converter.structure(part, part_type))
    faults.raise_all()
    return tuple(parts)


def _mapping(converter: cattrs.Converter, value: Any, type_: Any) -> dict[Any, Any]:
    if not isinstance(value, Mapping):
        raise _wrong(type_, value)
    key_type, part_type = get_args(type_)
    faults, parts = _Faults(dict), {}
    for key, part in value.items():
        with faults.at(str(key)):
            parts[converter.structure(key, key_type)] = converter.structure(part, part_type)
    faults.raise_all()
    return parts


def _attrs_class(converter: cattrs.Converter, value: Any, cls: type[Any]) -> Any:
    if not isinstance(value, Mapping):
        raise _wrong(cls, value)
    return _instance(converter, value, cls, _Faults(cls))


def _component(converter: cattrs.Converter, registry: Registry, value: Any, base: type[ComponentConfig]) -> Any:
    table = {"use": value} if isinstance(value, str) else value
    if not isinstance(table, Mapping) or not isinstance(table.get("use"), str):
        raise _wrong(base, value)
    entry = registry.find(_kind_of(base) or "", table["use"])
    spec = registry.load(entry)
    if not issubclass(spec.config, base):
        raise ValueError(f"expected a component with a {base.__name__}, got {entry.id!r}")
    faults, fields = _Faults(spec.config), {k: v for k, v in table.items() if k not in RESERVED}
    with faults.at("revision"):
        fields = _of_revision(table.get("revision", spec.revision), fields, spec, f"{entry.id} {entry.version}")
    return _instance(converter, fields, spec.config, faults)


def _of_revision(written: Any, fields: dict[str, Any], spec: ComponentSpec, what: str) -> dict[str, Any]:
    """The fields as the installed revision has them; those of another one only if the spec knows how to read them."""
    if type(written) is int and written == spec.revision:
        return fields
    if type(written) is int and 1 <= written < spec.revision and spec.migrate is not None:
        return dict(spec.migrated(fields, written))
    raise ValueError(f"expected {spec.revision}, which is the revision of the installed {what}, got {written!r}")


def _instance(converter: cattrs.Converter, table: Mapping[str, Any], cls: type[Any], faults: _Faults) -> Any:
    fields = {str(field.alias): field for field in attrs.fields(cls) if field.init}
    types = get_type_hints(cls)
    values: dict[str, Any] = {}
    for name, field in fields.items():
        with faults.at(name):
            if name in table:
                values[name] = converter.structure(table[name], types.get(field.name, object))
            elif field.default is attrs.NOTHING:
                raise ValueError("required, but missing")
    for name in table:
        if name not in fields:
            with faults.at(str(name)):
                raise ValueError(unknown_key(name, fields))
    readable = {n: f for n, f in fields.items() if n in values or (n not in table and f.default is not attrs.NOTHING)}
    _validate(cls, readable, values, faults)
    faults.raise_all()
    return cls(**values)


def _validate(
    cls: type[Any], fields: Mapping[str, attrs.Attribute[Any]], values: Mapping[str, Any], faults: _Faults
) -> None:
    """Runs each field's validator under the field's name; the class itself would stop at the first, without a name.

    A default or a validator may look at other fields, and one that could not be read is absent from the draft.
    """
    draft = object.__new__(cls)
    for name, field in fields.items():
        with faults.at(name), suppress(AttributeError):
            given = values[name] if name in values else default_of(field, draft)
            object.__setattr__(draft, field.name, attrs.setters.convert(draft, field, given))
    for name, field in fields.items():
        with faults.at(name), suppress(AttributeError):
            attrs.setters.validate(draft, field, getattr(draft, field.name))


def default_of(field: attrs.Attribute[Any], instance: object) -> Any:
    """The default of a field; ``instance`` holds the fields before it, which a factory may read."""
    default: Any = field.default
    if not hasattr(default, "takes_self"):  # attrs.Factory is a function to the type checker
        return default
    return default.factory(instance) if default.takes_self else default.factory()


def _origin(type_: Any) -> Any:
    return get_origin(type_)


def _kind_of(type_: Any) -> str | None:
    bases = (kind for kind, base in KINDS.items() if isinstance(type_, type) and issubclass(type_, base))
    return next(bases, None)


def _part_name(fault: BaseException) -> str:
    notes = getattr(fault, "__notes__", ())
    return next((note.name for note in notes if isinstance(note, AttributeValidationNote)), "")


def _text(fault: BaseException) -> str:
    # The validators of attrs put their message first, before the parts it was made of.
    message = fault.args[0] if fault.args and not isinstance(fault, MvcoreError) else None
    return message if isinstance(message, str) else str(fault)


def _wrong(type_: Any, value: Any) -> ValueError:
    return ValueError(f"expected {_named(type_)}, got {value!r}")


def _named(type_: Any) -> str:
    """How an error calls a type."""
    args, kind = get_args(type_), _kind_of(type_)
    if _origin(type_) is Literal:
        return _listed([repr(choice) for choice in args])
    if _origin(type_) in _UNIONS:
        return _listed([_named(arm) for arm in args])
    if _origin(type_) is tuple:
        return f"a list of {_named(args[0])}"
    if _origin(type_) in _MAPPINGS or (kind is None and attrs.has(type_)):
        return "a table"
    return f"the name of a {kind} or a table with 'use'" if kind else "None" if type_ is NoneType else type_.__name__


def _listed(names: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
