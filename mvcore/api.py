"""The functions of a user's first lines: a data set and a model, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from mvcore.config import edit
from mvcore.data.schema import Schema
from mvcore.errors import DataError
from mvcore.plugins.registry import Registry

if TYPE_CHECKING:
    from mvcore.data.dataset import MultimodalDataset
    from mvcore.models.base import Model


def create(name: str, data: MultimodalDataset | Schema, **fields: Any) -> Model:
    """Builds a model that fits the data's schema.

    Args:
        name: Name of an installed model, ``mopoe`` or ``mvcore-mopoe:mopoe``; ``mvcore plugins`` lists them.
        data: A data set, or its schema.
        **fields: Fields of the model's config, checked strictly; the others keep the paper's defaults. A field of a
            part goes in a table, ``loss={"beta": 2.5}``, or by its path, ``**{"loss.beta": 2.5}``. A table changes what
            it names, ``modalities={"image": {"likelihood": "laplace"}}``; one with ``use`` is a component anew.

    Returns:
        The model, its weights drawn from torch's global generator.

    Raises:
        UnknownComponentError: If no such model is installed.
        ConfigError: If a field does not exist or a value does not fit; it has all problems.

    Example:
        >>> import mvcore
        >>> model = mvcore.create("multimodal", mvcore.dataset("mfeat"), latent_dim=8)
        >>> model.config.latent_dim
        8
    """
    registry = Registry.installed()
    schema = data if isinstance(data, Schema) else getattr(data, "schema", None)
    if not isinstance(schema, Schema):
        raise DataError(f"Expected a data set or its schema, for which to build a model; got {type(data).__name__}.")
    spec = registry.spec("model", name)
    config = spec.config().complete(schema)  # type: ignore[attr-defined]
    model: Model = spec.builder()(edit(config, _flat(fields, config), registry), schema)
    return model


def dataset(name: str, **fields: Any) -> MultimodalDataset:
    """A data set by name: ``mfeat`` and ``miniacc`` come with the package.

    Raises:
        UnknownComponentError: If no such data set is installed.
        ConfigError: If a field does not exist or a value does not fit.
    """
    registry = Registry.installed()
    spec = registry.spec("dataset", name)
    data: MultimodalDataset = spec.builder()(edit(spec.config(), fields, registry))
    return data


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
