"""Finds the installed components by name, and imports a plugin only when one of its components is asked for."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib import metadata
from typing import Any, final, get_type_hints

import attrs
from packaging.utils import canonicalize_name

from mvcore.errors import (
    AmbiguousComponentError,
    BrokenPluginError,
    ConfigError,
    NotPackagedError,
    UnknownComponentError,
)
from mvcore.plugins.spec import API, KINDS, ComponentConfig, ComponentSpec

log = logging.getLogger(__name__)

RESERVED = ("use", "revision")  #: Keys that a config's table keeps for itself, so no field may have these names.


@final
@attrs.frozen(order=True)
class Entry:
    """A component as the metadata of its distribution names it; nothing is imported yet (level 0).

    Args:
        kind: A key of ``KINDS``.
        name: The name within its kind.
        dist: The canonical name of the distribution.
        version: The version of the distribution.
        point: Where its ``ComponentSpec`` is.
    """

    kind: str
    name: str
    dist: str
    version: str
    point: metadata.EntryPoint = attrs.field(repr=False, eq=False, order=False)

    @property
    def id(self) -> str:
        """The unambiguous name, ``"dist:name"``, which saved files use."""
        return f"{self.dist}:{self.name}"


@final
class Registry:
    """The components of one environment. Immutable: what is installed later is in the next registry.

    Args:
        entries: The components; the outcome does not depend on their order.

    Example:
        >>> registry = Registry.installed()
        >>> registry.find("loss", "elbo").id
        'mvcore:elbo'
    """

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._entries = tuple(sorted(entries))

    @classmethod
    def installed(cls) -> Registry:
        """The components of all distributions on ``sys.path``, by their metadata alone, and of ``mvcore.local``."""
        from mvcore.plugins import local  # which needs Entry

        return cls((*_scanned(tuple((path, _changed(path)) for path in sys.path)), *local.entries()))

    def entries(self, kind: str | None = None) -> list[Entry]:
        """The components of one kind, or of all kinds, sorted."""
        return [entry for entry in self._entries if kind in (None, entry.kind)]

    def matching(self, kind: str, ref: str) -> list[Entry]:
        """The components of a kind that ``name`` or ``dist:name`` may stand for."""
        dist, colon, name = ref.rpartition(":")
        found = [entry for entry in self.entries(kind) if entry.name == name]
        return [entry for entry in found if entry.dist == canonicalize_name(dist)] if colon else found

    def find(self, kind: str, ref: str) -> Entry:
        """The component of a kind that is called ``name`` or ``dist:name``.

        Raises:
            UnknownComponentError: If there is none, or no such kind.
            AmbiguousComponentError: If two distributions use the name.
            ConfigError: If the name is no text.
        """
        if kind not in KINDS:
            raise UnknownComponentError("kind", kind, list(KINDS))
        if not isinstance(ref, str):
            raise ConfigError([f"expected the name of a {kind}, got {ref!r}"], kind)
        found = self.matching(kind, ref)
        if len(found) > 1:
            raise AmbiguousComponentError(kind, ref, [entry.id for entry in found])
        if not found:
            known = [entry.id if ":" in ref else entry.name for entry in self.entries(kind)]
            raise UnknownComponentError(kind, ref, sorted(set(known)))
        return found[0]

    def load(self, entry: Entry) -> ComponentSpec:
        """Imports the spec of a component (level 1).

        Raises:
            BrokenPluginError: If that fails, or what it finds is not a spec of this kind and plugin API.
        """
        try:
            spec = entry.point.load()
        except Exception as cause:
            raise _broken(entry, f"{type(cause).__name__}: {cause}") from cause
        if not isinstance(spec, ComponentSpec):
            raise _broken(entry, f"expected a ComponentSpec, got {spec!r}")
        if fault := _fault(entry.kind, spec):
            raise _broken(entry, fault)
        return spec

    def spec(self, kind: str, ref: str) -> ComponentSpec:
        """The spec of the component of a kind called ``name`` or ``dist:name``; raises as ``find`` and ``load`` do."""
        return self.load(self.find(kind, ref))

    def entry_of(self, config: type[ComponentConfig]) -> Entry:
        """The component that a config class belongs to.

        Raises:
            NotPackagedError: If no installed distribution registers the class.
            BrokenPluginError: If none does, and a spec of the class's own package cannot be loaded.
            AmbiguousComponentError: If the class is registered under two names, of which a config could not say one.
        """
        kind = next((kind for kind, base in KINDS.items() if issubclass(config, base)), "model")
        package = _package(config.__module__)
        near = [entry for entry in self.entries(kind) if _package(entry.point.module) == package]
        far = [entry for entry in self.entries(kind) if entry not in near]
        # Those of the class's own package first: the others import plugins that have nothing to do with it.
        found = list(self._using(config, near)) or list(self._using(config, far))
        if not found:
            for entry in near:
                self.load(entry)  # a broken spec of the class's own package is what the caller should hear of
            raise NotPackagedError(f"{config.__module__}.{config.__qualname__}", f"mvcore.{kind}")
        if len(found) > 1:
            raise AmbiguousComponentError(kind, config.__qualname__, [entry.id for entry in found])
        return found[0]

    def build(self, config: ComponentConfig, *arguments: Any, **sizes: Any) -> Any:
        """Builds the component of a config (level 2), with the arguments that its kind's builders take.

        Raises:
            NotPackagedError: As ``entry_of``.
            BrokenPluginError: If the builder takes other arguments.
            ConfigError: If the component refuses its config or its sizes.
        """
        from mvcore.plugins.construction import build_entry  # which needs Entry

        entry = self.entry_of(type(config))
        return build_entry(entry, self.load(entry), config, *arguments, **sizes)

    def broken(self) -> list[BrokenPluginError]:
        """The faults of the installed components; imports every spec and, after all specs, builders and figures.

        A spec that imports torch is a fault, if torch was not imported before; only the first such spec can be told.
        """
        checked = [(entry, self._spec_or_fault(entry)) for entry in self._entries]
        specs = [(entry, spec) for entry, spec in checked if isinstance(spec, ComponentSpec)]
        faults = [fault for _, fault in checked if isinstance(fault, BrokenPluginError)]
        return faults + [fault for entry, spec in specs if (fault := _function_fault(entry, spec))]

    def _using(self, config: type[ComponentConfig], entries: list[Entry]) -> Iterator[Entry]:
        for entry in entries:
            try:
                if self.load(entry).config is config:
                    yield entry
            except BrokenPluginError:
                continue  # it hurts whoever asks for it, which is not this caller

    def _spec_or_fault(self, entry: Entry) -> ComponentSpec | BrokenPluginError:
        without_torch = "torch" not in sys.modules
        try:
            spec = self.load(entry)
        except BrokenPluginError as error:
            return error
        if without_torch and "torch" in sys.modules:
            return _broken(entry, "its spec imports torch, which only the module of its builder may do")
        return spec


@lru_cache(maxsize=8)
def _scanned(path: tuple[tuple[str, int], ...]) -> tuple[Entry, ...]:
    """The entries of all distributions on a path, whose folders were last changed at these times.

    Reading the metadata of every distribution takes some 30 ms, and a model's config asks for dozens of components.
    """
    # One name may be on the path twice; metadata.distribution() is the first of them, the one that imports.
    names = {name for dist in metadata.distributions() if (name := _name_if_plugin(dist))}
    return tuple(entry for name in names for entry in _entries_of(name, metadata.distribution(name)))


def _changed(path: str) -> int:
    """When names were last added to or removed from a folder, in nanoseconds; 0 where there is none."""
    try:
        return os.stat(path or os.curdir).st_mtime_ns
    except OSError:
        return 0


def _points(dist: metadata.Distribution) -> Iterator[tuple[str, metadata.EntryPoint]]:
    for point in dist.entry_points:
        prefix, _, kind = point.group.partition(".")
        if prefix == "mvcore" and kind in KINDS:
            yield kind, point


def _name_if_plugin(dist: metadata.Distribution) -> str | None:
    try:
        return canonicalize_name(dist.name) if any(_points(dist)) else None
    except Exception as cause:  # the remains of an uninstalled distribution, or what no installer wrote
        log.warning("A distribution in %s is left out, its metadata cannot be read: %r.", dist.locate_file(""), cause)
        return None


def _entries_of(name: str, dist: metadata.Distribution) -> Iterator[Entry]:
    version = dist.version  # read once: it parses the metadata
    for kind, point in _points(dist):
        yield Entry(kind, point.name, name, version, point)


def _package(module: str) -> str:
    return module.partition(".")[0]


def _broken(entry: Entry, why: str) -> BrokenPluginError:
    return BrokenPluginError(entry.id, entry.version, entry.point.value, why)


@lru_cache(maxsize=1024)
def _fault(kind: str, spec: ComponentSpec) -> str | None:
    # The API first: another one may mean other rules for all the rest.
    if spec.api != API:
        return f"it was written for plugin API {spec.api!r}, this mvcore has {API}"
    if spec.figure is not None and kind != "metric":
        return f"it names the figure {spec.figure!r}, which metrics alone have"
    return _config_fault(kind, spec.config)


def _config_fault(kind: str, config: Any) -> str | None:
    if not (isinstance(config, type) and attrs.has(config)):
        return f"its config must be an attrs class, got {config!r}"
    kinds = [other for other, base in KINDS.items() if issubclass(config, base)]
    if kinds != [kind]:
        return f"{config.__name__} must derive from {KINDS[kind].__name__} and from the base of no other kind"
    if taken := {field.alias for field in attrs.fields(config)}.intersection(RESERVED):
        return f"{config.__name__} has a field {min(taken)!r}, a name that the file format needs"
    try:
        get_type_hints(config)
    except Exception as cause:
        return f"a field type of {config.__name__} cannot be resolved: {cause}"
    return None


def _function_fault(entry: Entry, spec: ComponentSpec) -> BrokenPluginError | None:
    for what, path, load in (("builder", spec.build, spec.builder), ("figure", spec.figure, spec.drawer)):
        try:
            load()
        except Exception as cause:
            return _broken(entry, f"its {what} {path!r} cannot be imported: {type(cause).__name__}: {cause}")
    return None
