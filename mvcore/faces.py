"""The faces of packages: public names that load on first use, so that a spec costs no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

Face = tuple[list[str], Callable[[str], Any], Callable[[], list[str]]]


def face(package: str, public: Mapping[str, Sequence[str]]) -> Face:
    """The ``__all__``, ``__getattr__`` and ``__dir__`` of a package (PEP 562).

    Args:
        package: The package's ``__name__``.
        public: The public names by the module inside the package that defines them. No name may be that of a module
            of the package: importing the module would put it in the name's place.
    """
    homes = {name: module for module, names in public.items() for name in names}

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{homes[name]}"), name)

    return sorted(homes), load, lambda: sorted(homes)
