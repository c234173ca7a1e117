"""Builds data sets and models by name, and for authors of models what a model is put together from."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any, cast, final

import attrs

from mvcore.config.plain import edit, structure
from mvcore.data.schema import Schema
from mvcore.data.transforms import Affine, InputTransform
from mvcore.errors import ConfigError, DataError
from mvcore.likelihoods.base import LikelihoodDecoder
from mvcore.nn.joint import JointEncoder
from mvcore.nn.protocols import Encoder
from mvcore.nn.trial import try_decoder, try_encoder
from mvcore.plugins.registry import Registry
from mvcore.plugins.spec import LikelihoodConfig, ModelConfig

if TYPE_CHECKING:
    from mvcore.data.dataset import MultimodalDataset
    from mvcore.models.base import Model
    from mvcore.models.specs import ModalityConfig, PartsConfig

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
        DataError: If ``data`` is neither a data set nor a schema.

    Example:
        >>> import mvcore
        >>> model = mvcore.create("multimodal", mvcore.dataset("mfeat"), latent_dim=8)
        >>> model.config.latent_dim
        8
    """
    return create_from(name, data, fields)


def create_from(name: str, data: MultimodalDataset | Schema, fields: Mapping[str, Any]) -> Model:
    """As ``create``, whose own arguments no field of a table can be taken for."""
    registry = Registry.installed()
    schema = data if isinstance(data, Schema) else getattr(data, "schema", None)
    if not isinstance(schema, Schema):
        raise DataError(f"Expected a data set or its schema, for which to build a model; got {type(data).__name__}.")
    spec = registry.spec("model", name)
    likelihoods = _likelihoods(schema, fields, registry)
    named = [attrs.evolve(m, likelihood=_name_of(likelihoods[m.name], m.likelihood, registry)) for m in schema]
    schema = attrs.evolve(schema, modalities=named)
    config = cast(ModelConfig, spec.config()).complete(schema, likelihoods)
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
    encoders: Mapping[str, Encoder]
    decoders: Mapping[str, LikelihoodDecoder]
    modality_weights: Mapping[str, float]


def build_parts(
    config: PartsConfig,
    schema: Schema,
    *,
    latent_dims: Mapping[str, int] | None = None,
    decoded_dims: Mapping[str, int] | None = None,
    private_dims: Mapping[str, int] | None = None,
    generated: Collection[str] | None = None,
) -> Parts:
    """The input transforms, encoders, decoders and weights of every modality.

    Args:
        config: The model's config, with every modality of the schema.
        schema: The modalities.
        latent_dims: Dimensions of the latent that each encoder gives and decoder takes; ``config.latent_dim`` unless
            the model has a latent of its own for each modality.
        decoded_dims: Dimensions of what each decoder takes, private latents aside, where that is not what the encoder
            gives.
        private_dims: Dimensions of the private latents.
        generated: The modalities that get a decoder, all by default; the others are conditions.

    Raises:
        ConfigError: If a modality has no parts, or parts that do not fit it.
    """
    if missing := [m for m in schema.names if m not in config.modalities]:
        raise ConfigError([f"modalities.{m}: has no parts; mvcore.create fills in defaults" for m in missing])
    registry = Registry.installed()
    parts: dict[str, dict[str, Any]] = {"inputs": {}, "encoders": {}, "decoders": {}, "modality_weights": {}}
    for m in schema:
        own, latent = config.modalities[m.name], (latent_dims or {}).get(m.name, config.latent_dim)
        private = (private_dims or {}).get(m.name, 0)
        sizes: dict[str, Any] = {"modality": m, "latent_dim": latent, "private_dim": private}
        sizes["context_dim"] = schema.context_dim
        if generated is None or m.name in generated:
            taken = (decoded_dims or {}).get(m.name, latent)
            parts["decoders"][m.name] = _decoder(registry, own, {**sizes, "latent_dim": taken})
        parts["inputs"][m.name] = InputTransform(m.shape, own.input, m.categories)
        parts["encoders"][m.name] = encoder = registry.build(own.encoder, **sizes)
        try_encoder(f"The encoder of {m.name!r}", encoder, m, latent, private, schema.context_dim)
        largest = max(other.size for other in schema)
        parts["modality_weights"][m.name] = largest / m.size if own.weight == "dimension" else own.weight
    return Parts(**parts)


def _decoder(registry: Registry, own: ModalityConfig, sizes: Mapping[str, Any]) -> LikelihoodDecoder:
    """A modality's network with its likelihood."""
    m, width = sizes["modality"], sizes["latent_dim"] + sizes["private_dim"]
    likelihood = registry.build(own.likelihood, modality=m)
    network = registry.build(own.decoder, **sizes, n_outputs=likelihood.n_outputs)
    try_decoder(f"The decoder network of {m.name!r}", network, m, width, likelihood.n_outputs, sizes["context_dim"])
    return LikelihoodDecoder(network, likelihood, None if own.scale == "none" else Affine(m.shape, own.scale))


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
