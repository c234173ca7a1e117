"""Hypothesis strategies for configs: any values that the types and validators of their fields allow."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import attrs
from hypothesis import strategies as st

from mvcore.plugins.registry import Registry
from mvcore.plugins.spec import KINDS, ComponentConfig

#: How many components may stand inside each other; deeper ones have their defaults.
DEPTH = 2

_NAMES = st.text("abcxyzßé_0 ", min_size=1, max_size=6)
_SCALARS: Mapping[type, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: st.integers(-1, 40),
    float: st.floats(-0.5, 10) | st.floats(1e-12, 1e12),
    str: _NAMES,
    NoneType: st.none(),
}


@st.composite
def configs(draw: st.DrawFn, cls: type[Any], depth: int = DEPTH) -> Any:
    """Instances of a config class. Each field that can is changed from its default to a drawn value.

    A value that a validator refuses, alone or beside the others, leaves the field as it was.

    Args:
        draw: Hypothesis's.
        cls: A config class, or any attrs class that configs hold.
        depth: How many components may still stand inside each other.
    """
    types = get_type_hints(cls)
    fields = {f.alias or f.name: types[f.name] for f in attrs.fields(cls) if f.init}
    needed = {f.alias or f.name for f in attrs.fields(cls) if f.init and f.default is attrs.NOTHING}
    config = cls(**{name: draw(_valid(fields[name], depth)) for name in sorted(needed)})
    for name, type_ in fields.items():
        value = draw(values(type_, depth))
        try:
            config = attrs.evolve(config, **{name: value})
        except (ValueError, TypeError):
            continue
    return config


def values(type_: Any, depth: int = DEPTH) -> st.SearchStrategy[Any]:
    """Values of a field's type, of the types that configs may have."""
    origin, inner = get_origin(type_), get_args(type_)
    if type_ in _SCALARS:
        return _SCALARS[type_]
    if origin is Literal:
        return st.sampled_from(inner)
    if origin in (Union, UnionType):
        return st.one_of(*(values(part, depth) for part in inner))
    if origin is tuple:
        return st.lists(values(inner[0], depth), max_size=3).map(tuple)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return st.dictionaries(_NAMES, values(inner[1], depth), max_size=2 if depth else 0)
    if type_ in KINDS.values():
        return _component(type_, depth)
    return configs(type_, depth)


def _valid(type_: Any, depth: int) -> st.SearchStrategy[Any]:
    """A value for a field that has no default; of a component an installed one."""
    return values(type_, depth)


def _component(base: type[ComponentConfig], depth: int) -> st.SearchStrategy[Any]:
    kind = next(kind for kind, other in KINDS.items() if other is base)
    registry = Registry.installed()
    classes = [registry.load(entry).config for entry in registry.entries(kind)]
    chosen = st.sampled_from(classes)
    return chosen.flatmap(lambda cls: configs(cls, depth - 1)) if depth else chosen.map(lambda cls: cls())
