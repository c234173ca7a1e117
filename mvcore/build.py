"""Builds data sets and models by name, and for authors of models what a model is put together from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any, final

import attrs
from torch import nn

from mvcore.config.plain import edit
from mvcore.data.schema import Schema
from mvcore.data.transforms import Affine, InputTransform
from mvcore.errors import ConfigError
from mvcore.likelihoods.base import LikelihoodDecoder
from mvcore.nn.joint import JointEncoder
from mvcore.plugins.registry import Registry

if TYPE_CHECKING:
    from mvcore.data.dataset import MultimodalDataset
    from mvcore.models.base import Model
    from mvcore.models.specs import PartsConfig

__all__ = ["Parts", "build_joint_encoder", "build_parts", "create", "dataset"]


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
    schema = data if isinstance(data, Schema) else data.schema
    spec = registry.spec("model", name)
    config = spec.config().complete(schema)  # type: ignore[attr-defined]
    model: Model = registry.build(edit(config, _flat(fields, config), registry), schema)
    return model


def dataset(name: str, **fields: Any) -> MultimodalDataset:
    """A data set by name: ``mfeat`` and ``miniacc`` come with the package.

    Raises:
        UnknownComponentError: If no such data set is installed.
        ConfigError: If a field does not exist or a value does not fit.
    """
    registry = Registry.installed()
    data: MultimodalDataset = registry.build(edit(registry.spec("dataset", name).config(), fields, registry))
    return data


@final
@attrs.frozen
class Parts:
    """The modules of a model that belong to its modalities, by name."""

    inputs: Mapping[str, InputTransform]
    encoders: Mapping[str, nn.Module]
    decoders: Mapping[str, LikelihoodDecoder]
    weights: Mapping[str, float]


def build_parts(
    config: PartsConfig,
    schema: Schema,
    *,
    latent_dims: Mapping[str, int] | None = None,
    private_dims: Mapping[str, int] | None = None,
) -> Parts:
    """The input transforms, encoders, decoders and weights of every modality.

    Args:
        config: The model's config, with every modality of the schema.
        schema: The modalities.
        latent_dims: Dimensions of the latent that each encoder gives and decoder takes; ``config.latent_dim`` unless
            the model has a latent of its own for each modality.
        private_dims: Dimensions of the private latents.

    Raises:
        ConfigError: If a modality has no parts, or parts that do not fit it.
    """
    if missing := [m for m in schema.names if m not in config.modalities]:
        raise ConfigError([f"modalities.{m}: has no parts; mvcore.create fills in defaults" for m in missing])
    registry = Registry.installed()
    parts: dict[str, dict[str, Any]] = {"inputs": {}, "encoders": {}, "decoders": {}, "weights": {}}
    for m in schema:
        own, latent = config.modalities[m.name], (latent_dims or {}).get(m.name, config.latent_dim)
        sizes = {"modality": m, "latent_dim": latent, "private_dim": (private_dims or {}).get(m.name, 0),
                 "context_dim": schema.context_dim}  # fmt: skip
        likelihood = registry.build(own.likelihood, modality=m)
        network = registry.build(own.decoder, **sizes, n_outputs=likelihood.n_outputs)
        target = None if own.target == "none" else Affine(m.shape, own.target)
        parts["inputs"][m.name] = InputTransform(m.shape, own.input, m.categories)
        parts["encoders"][m.name] = registry.build(own.encoder, **sizes)
        parts["decoders"][m.name] = LikelihoodDecoder(network, likelihood, target)
        largest = max(other.size for other in schema)
        parts["weights"][m.name] = largest / m.size if own.weight == "dimension" else own.weight
    return Parts(**parts)


def build_joint_encoder(config: PartsConfig, schema: Schema, hidden: Sequence[int]) -> JointEncoder:
    """An encoder of all modalities together: tables as they are, anything else through a network like its encoder.

    Args:
        config: The model's config, with every modality of the schema.
        schema: The modalities.
        hidden: Widths of the hidden layers that see all modalities.
    """
    width = max(1, hidden[0] // 2)  # each network gives two vectors, together as wide as the first layer
    registry, networks, sizes = Registry.installed(), {}, {}
    for m in schema:
        sizes[m.name] = prod(m.input_shape) if len(m.shape) == 1 else 2 * width
        if len(m.shape) > 1:
            networks[m.name] = registry.build(
                config.modalities[m.name].encoder, modality=m, latent_dim=width, private_dim=0,
                context_dim=schema.context_dim,
            )  # fmt: skip
    return JointEncoder(sizes, networks, config.latent_dim, hidden, context_dim=schema.context_dim)


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
