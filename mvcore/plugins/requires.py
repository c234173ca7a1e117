"""The distributions that a saved model needs: written down from its config, checked before it is loaded."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from importlib import metadata
from typing import Any

import attrs
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name, canonicalize_version
from packaging.version import Version

from mvcore.errors import ConfigError, MissingPluginError, NotPackagedError
from mvcore.plugins.local import DIST
from mvcore.plugins.registry import Entry, Registry
from mvcore.plugins.spec import ComponentConfig

#: The distributions that an error may tell people to install. A model's file comes from anyone: a name that it alone
#: vouches for may be a trap.
PUBLISHED = frozenset(
    {
        "mvcore",
        "mvcore-cmvae",
        "mvcore-crmvae",
        "mvcore-cvae",
        "mvcore-dccae",
        "mvcore-dmvae",
        "mvcore-dvcca",
        "mvcore-gpoe",
        "mvcore-jmvae",
        "mvcore-jnf",
        "mvcore-maae",
        "mvcore-mcvae",
        "mvcore-mhvae",
        "mvcore-mmjsd",
        "mvcore-mmvae",
        "mvcore-mmvaeplus",
        "mvcore-mopoe",
        "mvcore-mvae",
        "mvcore-mvtcae",
        "mvcore-nexus",
        "mvcore-telbo",
    }
)


def components(config: object) -> Iterator[ComponentConfig]:
    """Each component config in a tree of attrs classes, mappings and sequences, the root first."""
    if isinstance(config, ComponentConfig):
        yield config
    for part in _parts(config):
        yield from components(part)


def requirements(config: object, registry: Registry | None = None) -> list[str]:
    """The distributions other than mvcore that a config tree needs, as sorted requirement lines.

    The range starts at the installed version, which wrote all the fields, and ends where its authors may break them.

    Raises:
        NotPackagedError: If no installed distribution registers one of the components.

    Example:
        >>> import mvcore
        >>> model = mvcore.create("multimodal", mvcore.dataset("mfeat"))
        >>> requirements(model.config)  # of mopoe it is ['mvcore-mopoe>=0.1,<0.2']
        []
    """
    registry = Registry.installed() if registry is None else registry
    entries = {_packaged(registry, type(component)) for component in components(config)}
    return sorted({f"{e.dist}{_compatible(Version(e.version))}" for e in entries if e.dist != "mvcore"})


def check(lines: Iterable[str], *, published: Collection[str] = PUBLISHED) -> None:
    """Checks that each requirement is met by what is installed.

    Args:
        lines: Requirements as ``requirements`` writes them: a name and versions, nothing else.
        published: The distributions that the error may tell people to install.

    Raises:
        ConfigError: If a line is not such a requirement.
        MissingPluginError: If any is not met; it names all of them.
    """
    needed = _parsed(lines)
    unmet = {str(line): have for line in needed if not _fits(line, have := _installed_version(line.name))}
    unknown = [str(line) for line in needed if canonicalize_name(line.name) not in published]
    if unmet:
        raise MissingPluginError(unmet, [line for line in unknown if line in unmet])


def _packaged(registry: Registry, config: type[ComponentConfig]) -> Entry:
    entry = registry.entry_of(config)
    if entry.dist == DIST:
        raise NotPackagedError(f"{config.__module__}.{config.__qualname__}", f"mvcore.{entry.kind}")
    return entry


def _parts(value: Any) -> Iterable[Any]:
    if attrs.has(type(value)):
        return [getattr(value, field.name) for field in attrs.fields(type(value))]
    if isinstance(value, Mapping):
        return list(value.values())
    return value if isinstance(value, (tuple, list)) else ()


def _compatible(version: Version) -> str:
    epoch = f"{version.epoch}!" if version.epoch else ""
    end = f"{version.major + 1}" if version.major else f"0.{version.minor + 1}"
    # ">=0.2" leaves out 0.2.dev1, so a development version must be named in full to admit itself.
    start = version.public if version.is_prerelease else canonicalize_version(version.base_version)
    return f">={start},<{epoch}{end}"


def _parsed(lines: Iterable[str]) -> list[Requirement]:
    needed, problems = [], []
    for line in lines:
        try:
            needed.append(_plain(Requirement(line)))
        except InvalidRequirement as error:
            problems.append(f"{line!r} is no requirement: {str(error).splitlines()[0]}")
    if problems:
        raise ConfigError(problems, "requires")
    return needed


def _plain(requirement: Requirement) -> Requirement:
    if requirement.url or requirement.extras or requirement.marker:
        raise InvalidRequirement("expected a name and versions only")
    if any(part.operator == "===" for part in requirement.specifier):  # it takes any text, a shell's commands too
        raise InvalidRequirement("expected versions, not '==='")
    return requirement


def _installed_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _fits(requirement: Requirement, version: str | None) -> bool:
    return version is not None and requirement.specifier.contains(version, prereleases=True)
