"""Checked configs to plain JSON values and back, strictly; the only module that knows the shape of a written config.

A component is written as a table with ``use`` (``"dist:name"``), ``revision`` and every field; other attrs classes as
a table of their fields. Nothing is coerced but an int for a float field, and a reader is told all faults at once.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import attrs

from mvcore.config.converter import FAULTS, make_converter, problems, unknown_key
from mvcore.config.reading import DEPTH, INT64, TOO_DEEP, check_depth
from mvcore.errors import ConfigError, UnknownComponentError
from mvcore.plugins.registry import RESERVED, Registry
from mvcore.plugins.spec import KINDS, ComponentConfig

C = TypeVar("C")
_TOML_LIMIT = 4 * 2**20  # bytes


def unstructure(config: Any, registry: Registry | None = None) -> dict[str, Any]:
    """A config as plain JSON values, all defaults written out, such that ``structure`` gives an equal one.

    Args:
        config: A component's config, or an instance of any other attrs class.
        registry: The components to name, by default the installed ones.

    Raises:
        ConfigError: If a field holds what its type does not allow, so that it could not be read again.
        NotPackagedError: If no installed distribution registers a component in it.
    """
    registry = _or_installed(registry)
    plain: dict[str, Any] = _plain(config, registry)
    _read(type(config), plain, registry, type(config).__name__)
    return plain


def structure(kind: str, value: Any, registry: Registry | None = None, path: str | None = None) -> ComponentConfig:
    """The config of a component from plain values.

    Args:
        kind: The kind of component, a key of ``KINDS``.
        value: A table with ``use`` and any of the fields, or a name alone.
        registry: The components to choose from, by default the installed ones.
        path: What an error calls the value, by default its kind.

    Raises:
        ConfigError: If anything does not fit; it has all problems.

    Example:
        >>> structure("loss", {"use": "mvcore:elbo", "beta": 2.0})
        ELBOConfig(beta=2.0, ...)
    """
    if kind not in list(KINDS):
        raise UnknownComponentError("kind", str(kind), list(KINDS))
    config: ComponentConfig = _read(KINDS[kind], value, _or_installed(registry), path or kind)
    return config


def structure_as(cls: type[C], value: Any, registry: Registry | None = None, path: str | None = None) -> C:
    """An instance of an attrs class that is no component (a schema, a table of training options) from plain values.

    Arguments and errors as for ``structure``; ``path`` is by default the name of the class.
    """
    config: C = _read(cls, value, _or_installed(registry), path or cls.__name__)
    return config


def edit(config: C, changes: Mapping[str, Any], registry: Registry | None = None) -> C:
    """A copy of a config with some fields replaced.

    Args:
        config: A component's config, or an instance of any other attrs class.
        changes: New values by field name or dotted path; a value may be plain or a config. A shorter path is set
            before a longer one, so ``{"loss": "iwae", "loss.draws": 5}`` gives an IWAE with 5 draws.
        registry: The components to choose from, by default the installed ones.

    Raises:
        ConfigError: If a path names nothing or a value does not fit; it has all problems.

    Example:
        >>> config = edit(structure("model", "multimodal"), {"latent_dim": 20, "loss.beta": 2.0})
        >>> config.latent_dim, config.loss.beta
        (20, 2.0)
    """
    registry = _or_installed(registry)
    tree, where = _plain(config, registry), type(config).__name__
    paths = sorted(changes, key=lambda path: path.count("."))
    faults = [fault for path in paths if (fault := _set(tree, path, _plain(changes[path], registry)))]
    try:
        edited: C = _read(type(config), tree, registry, where)
    except ConfigError as error:
        raise ConfigError([*faults, *error.problems], where) from error
    if faults:
        raise ConfigError(faults, where)
    return edited


def read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The tables of a TOML file, as plain values for ``structure``.

    Raises:
        ConfigError: If it is no TOML; it names the file, the line and the column.
    """
    where = os.fspath(path)
    try:
        with open(path, "rb") as file:
            content = file.read(_TOML_LIMIT + 1)
        return parse_toml(content)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        problem = f"there is no file {where!r}" if missing else f"cannot be read: {error.strerror or error}"
        raise ConfigError([problem], where) from None
    except ValueError as error:  # of TOML, or of UTF-8
        raise ConfigError([str(error)], where) from error


def parse_toml(content: bytes) -> dict[str, Any]:
    """The tables of a TOML text, with at most 64 tables or lists inside each other.

    Raises:
        ValueError: If it is no such text; the message says what is wrong, without a full stop.
    """
    if len(content) > _TOML_LIMIT:
        raise ValueError(f"it has more than {_TOML_LIMIT:,} bytes, which no config needs")
    text = content.decode("utf-8")
    _check_dotted(text)
    try:
        tables = tomllib.loads(text)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    check_depth(tables)
    if large := list(_beyond_64_bits(tables)):
        raise ValueError(f"{large[0]}: an integer of more than 64 bits")
    return tables


def _beyond_64_bits(value: Any, path: str = "") -> Iterator[str]:
    """Where integers stand that no field takes."""
    if isinstance(value, (dict, list)):
        for name, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _beyond_64_bits(part, f"{path}.{name}" if path else str(name))
    elif type(value) is int and value not in INT64:
        yield path


def _check_dotted(text: str) -> None:
    """Refuses a key of too many parts, of which the parser's memory grows as the square."""
    run = 0
    for part in re.sub(r"""\"(?:[^"\\\n]|\\.)*+\"|'[^'\n]*+'""", "k", text).split("."):
        run = run + 1 if re.fullmatch(r"[\w \t-]*", part) else 0
        if run > DEPTH:
            raise ValueError(TOO_DEEP)


def _or_installed(registry: Registry | None) -> Registry:
    return Registry.installed() if registry is None else registry


def _read(cls: type[Any], value: Any, registry: Registry, where: str) -> Any:
    try:
        check_depth(value)
        return make_converter(registry).structure(value, cls)
    except FAULTS as fault:
        raise ConfigError(list(problems(fault)), where) from fault


def _plain(value: Any, registry: Registry, depth: int = 0) -> Any:
    if depth > DEPTH:
        raise ConfigError([TOO_DEEP])
    depth += 1
    if attrs.has(type(value)):
        fields = {f.alias: _plain(getattr(value, f.name), registry, depth) for f in attrs.fields(type(value)) if f.init}
        return {**_named(value, registry), **fields} if isinstance(value, ComponentConfig) else fields
    if isinstance(value, Mapping):
        return {key: _plain(part, registry, depth) for key, part in value.items()}
    return [_plain(part, registry, depth) for part in value] if isinstance(value, (tuple, list)) else value


def _named(config: ComponentConfig, registry: Registry) -> dict[str, Any]:
    entry = registry.entry_of(type(config))
    return {"use": entry.id, "revision": registry.load(entry).revision}


def _set(tree: dict[str, Any], path: str, value: Any) -> str | None:
    """Sets one value in a tree of tables; gives the problem if the path does not lead to one."""
    return put(tree, path.split("."), value, new=False)


def put(tree: dict[str, Any], keys: Sequence[str], value: Any, *, new: bool = True) -> str | None:
    """Sets one value in a tree of tables, in place; gives the problem if the keys do not lead to one.

    Args:
        tree: The tables.
        keys: The keys that lead to the value.
        value: The value.
        new: Whether tables on the way that are not there are made.
    """
    *parents, last = keys
    for depth, name in enumerate(parents, start=1):
        here = ".".join(parents[:depth])
        if name not in tree and not new:
            return f"{here}: {unknown_key(name, (key for key in tree if key not in RESERVED))}"
        inner = tree.setdefault(name, {})
        if isinstance(inner, str):  # the shorthand for a component, set by a shorter path
            inner = tree[name] = {"use": inner}
        if not isinstance(inner, dict):
            return f"{'.'.join(keys)}: {here} is {inner!r}, which has no fields"
        tree = inner
    tree[last] = value
    return None
