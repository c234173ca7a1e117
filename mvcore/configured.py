"""The config of a model from the fields that a caller or a file gives, without building it. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import attrs

from mvcore.config.plain import edit, structure
from mvcore.data.schema import Schema
from mvcore.plugins.registry import Registry
from mvcore.plugins.spec import LikelihoodConfig, ModelConfig


def configured(name: str, schema: Schema, fields: Mapping[str, Any], registry: Registry) -> tuple[ModelConfig, Schema]:
    """What ``mvcore.create`` builds a model from: its config, complete, and the schema with its likelihoods.

    Args:
        name: Name of an installed model.
        schema: The modalities of the data.
        fields: Fields of the model's config, as for ``mvcore.create``.
        registry: The components to choose from.

    Raises:
        UnknownComponentError: If no such model is installed.
        ConfigError: If a field does not exist or a value does not fit; it has all problems.
    """
    spec = registry.spec("model", name)
    likelihoods = _likelihoods(schema, fields, registry)
    named = [attrs.evolve(m, likelihood=_name_of(likelihoods[m.name], m.likelihood, registry)) for m in schema]
    schema = attrs.evolve(schema, modalities=named)
    config = cast(ModelConfig, spec.config()).complete(schema, likelihoods)
    return edit(config, _flat(fields, config), registry), schema


def _likelihoods(schema: Schema, fields: Mapping[str, Any], registry: Registry) -> dict[str, LikelihoodConfig]:
    """The likelihood of each modality: what the caller names, or else what the data does."""
    tables = fields.get("modalities")
    found = {}
    for m in schema:
        table = tables.get(m.name) if isinstance(tables, Mapping) else None
        given = table.get("likelihood") if isinstance(table, Mapping) else getattr(table, "likelihood", None)
        given = fields.get(f"modalities.{m.name}.likelihood", given)
        if given is None or (isinstance(given, Mapping) and "use" not in given):
            given = m.likelihood  # fields alone change the one that the data names
        if not isinstance(given, LikelihoodConfig):
            given = structure("likelihood", given, registry, f"modalities.{m.name}.likelihood")
        found[m.name] = cast(LikelihoodConfig, given)
    return found


def _name_of(likelihood: LikelihoodConfig, written: str, registry: Registry) -> str:
    """How a schema calls a likelihood: as it is written, if that means it, else by its name; a plugin's by its id."""
    entry = registry.entry_of(type(likelihood))
    return written if written in (entry.name, entry.id) else entry.name if entry.dist == "mvcore" else entry.id


def _flat(fields: Mapping[str, Any], config: Any) -> dict[str, Any]:
    """Tables that name no component as paths, so that they change what the config has instead of replacing it."""
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        # an entry that a mapping of tables lacks is taken for one, and refused by its path
        current = next(iter(config.values()), None) if isinstance(config, Mapping) else getattr(config, name, None)
        parts = list(current.values()) if isinstance(current, Mapping) else [current]
        if any(attrs.has(type(part)) for part in parts) and isinstance(value, Mapping) and "use" not in value:
            flat |= {f"{name}.{path}": part for path, part in _flat(value, current).items()}
        else:
            flat[name] = value
    return flat
