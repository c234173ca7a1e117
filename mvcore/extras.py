"""Packages that mvcore can do without, imported where they are used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from mvcore.errors import MissingExtraError


def require(module: str, extra: str, what: str) -> Any:
    """Imports a module, or says which extra brings it.

    Args:
        module: The module, ``sklearn.cluster``.
        extra: The extra of mvcore that installs its package, ``eval``.
        what: What needs it, as a sentence starts: ``The linear probe``.

    Raises:
        MissingExtraError: If its package is not installed, or can't be imported.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MissingExtraError(_DISTRIBUTIONS.get(package, package), extra, what) from error


#: Packages that are installed by another name than they are imported by.
_DISTRIBUTIONS = {"sklearn": "scikit-learn"}
