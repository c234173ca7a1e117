"""Whether two processes have the same plugins: a config means what the plugin that reads it makes of it."""

from __future__ import annotations

from collections.abc import Mapping

import mvcore
from mvcore.errors import ConfigError
from mvcore.plugins.registry import Registry


def versions() -> dict[str, str]:
    """The distributions with components in this environment, and their versions."""
    return {"mvcore": mvcore.__version__} | {entry.dist: entry.version for entry in Registry.installed().entries()}


def version_faults(expected: Mapping[str, str], found: Mapping[str, str], where: str) -> list[str]:
    """In what the distributions of one process differ from those of another.

    Args:
        expected: Those of the process that asks.
        found: Those of the other.
        where: What the other one is called.
    """
    return [
        f"{name}: this machine has {expected.get(name, 'none')}, {where} has {found.get(name, 'none')}; install the "
        "same everywhere"
        for name in sorted({*expected, *found})
        if expected.get(name) != found.get(name)
    ]


def check_versions(expected: Mapping[str, str]) -> None:
    """Raises a ConfigError where this process has other distributions than those expected."""
    if faults := version_faults(expected, versions(), "this worker"):
        raise ConfigError([fault.replace("this machine", "the driver") for fault in faults], "the plugins of a worker")
