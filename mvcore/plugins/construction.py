"""Calls the builders of components, whoever wrote them: each error names the component."""

from __future__ import annotations

from contextlib import suppress
from inspect import Signature, signature
from typing import Any

from mvcore.errors import BrokenPluginError, ConfigError, MvcoreError
from mvcore.plugins.registry import Entry
from mvcore.plugins.spec import ComponentConfig, ComponentSpec


def build_entry(entry: Entry, spec: ComponentSpec, config: ComponentConfig, *more: Any, **arguments: Any) -> Any:
    """What a component's builder makes of its config.

    Raises:
        BrokenPluginError: If the builder can't be imported, or takes other arguments than those of its kind.
        ConfigError: If it fails on these.
    """
    builder = _builder(entry, spec)
    with suppress(ValueError):  # of a builder in C, of which nothing can be asked
        _check_takes(entry, spec, signature(builder), config, *more, **arguments)
    try:
        made = builder(config, *more, **arguments)
    except MvcoreError:
        raise
    except Exception as cause:  # of whatever a builder does
        raise ConfigError([f"{entry.id} can't be built: {type(cause).__name__}: {cause}"], entry.kind) from cause
    if made is None:
        raise _broken(entry, f"its builder {spec.build!r} returned nothing")
    return made


def _check_takes(entry: Entry, spec: ComponentSpec, takes: Signature, *given: Any, **named: Any) -> None:
    try:
        takes.bind(*given, **named)
    except TypeError as cause:
        raise _broken(entry, f"its builder {spec.build!r} does not take the arguments of its kind: {cause}") from cause


def _builder(entry: Entry, spec: ComponentSpec) -> Any:
    try:
        return spec.builder()
    except (ImportError, AttributeError) as cause:
        why = f"its builder {spec.build!r} cannot be imported: {type(cause).__name__}: {cause}"
        raise _broken(entry, why) from cause


def _broken(entry: Entry, why: str) -> BrokenPluginError:
    return BrokenPluginError(entry.id, entry.version, entry.point.value, why)
