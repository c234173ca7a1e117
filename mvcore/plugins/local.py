"""Components of unpackaged work: found by name inside a ``with`` block, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import metadata
from typing import Any, final

from mvcore.errors import UnknownComponentError
from mvcore.plugins.registry import Entry
from mvcore.plugins.spec import KINDS, ComponentSpec

DIST = "local"  #: Stands where an installed component has the name of its distribution.
_entries: ContextVar[tuple[Entry, ...]] = ContextVar("mvcore_local", default=())


@final
class _Point(metadata.EntryPoint):
    """An entry point whose object is at hand."""

    def __init__(self, name: str, kind: str, spec: ComponentSpec) -> None:
        super().__init__(name, f"{spec.config.__module__}:{spec.config.__qualname__}", f"mvcore.{kind}")
        vars(self)["spec"] = spec

    def load(self) -> Any:
        return vars(self)["spec"]


@contextmanager
def local(spec: ComponentSpec, name: str = "local") -> Iterator[None]:
    """Makes a spec that no distribution registers available by name, in this block, thread and task alone.

    The model trains and gives its ``state_dict``; saving it raises a NotPackagedError that says how to package it.

    Args:
        spec: The component; its kind is that of its config's base.
        name: What it is called.

    Raises:
        UnknownComponentError: If the config derives from no kind's base.

    Example:
        >>> import attrs
        >>> import mvcore
        >>> from mvcore.models import ComposedConfig
        >>> from mvcore.plugins import ComponentSpec
        >>> @attrs.frozen(kw_only=True)
        ... class MineConfig(ComposedConfig):
        ...     latent_dim: int = 4
        >>> spec = ComponentSpec(api=1, config=MineConfig, build="mvcore.models:build_multimodal")
        >>> with mvcore.local(spec, "mine"):
        ...     model = mvcore.create("mine", mvcore.dataset("mfeat"))
        >>> model.config.latent_dim
        4
    """
    kind = next((kind for kind, base in KINDS.items() if issubclass(spec.config, base)), None)
    if kind is None:
        raise UnknownComponentError("kind", spec.config.__qualname__, list(KINDS))
    entry = Entry(kind, name, DIST, "0", _Point(name, kind, spec))
    token = _entries.set((*_entries.get(), entry))
    try:
        yield
    finally:
        _entries.reset(token)


def entries() -> tuple[Entry, ...]:
    """The local components of this context."""
    return _entries.get()
