"""Builds data sets and models by name, and for authors of models what a model is put together from."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any, final

import attrs
import torch

from mvcore import arguments
from mvcore.config.plain import edit
from mvcore.configured import configured
from mvcore.data.rows import Rows
from mvcore.data.schema import Schema
from mvcore.data.skew import warn_of_skew
from mvcore.data.transforms import InputTransform, target_of
from mvcore.errors import ConfigError, DataError
from mvcore.likelihoods.base import LikelihoodDecoder
from mvcore.nn.given import Given, given, given_decoder, given_encoder
from mvcore.nn.joint import JointEncoder
from mvcore.nn.protocols import Encoder
from mvcore.nn.trial import try_decoder, try_encoder
from mvcore.plugins.registry import Registry

if TYPE_CHECKING:
    from mvcore.data.dataset import MultimodalDataset
    from mvcore.models.base import Model
    from mvcore.models.specs import ModalityConfig, PartsConfig

__all__ = ["Parts", "build_joint_encoder", "build_parts", "create", "dataset"]


def create(
    name: str,
    data: Rows | Schema,
    *,
    seed: int | None = None,
    modules: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Model:
    """Builds a model that fits the data's schema.

    Args:
        name: Name of an installed model, ``mopoe`` or ``mvcore-mopoe:mopoe``; ``mvcore plugins`` lists them.
        data: A data set, or its schema.
        seed: Seed of the weights, which then leave torch's global generator as it was; by default they are drawn from
            that.
        modules: Torch modules of one's own, for each modality a pair of an encoder and a decoder, either of them None
            for that of the config. An encoder is called as ``mvcore.nn.Encoder``, a decoder as ``mvcore.nn.Decoder``;
            where the ``forward`` of one takes its first argument alone, an encoder gives features, from which a linear
            map leads to the latents, and a decoder as many numbers as the outputs. The model trains and makes
            checkpoints; ``mvcore.save`` refuses it, for nobody else could build it.
        **fields: Fields of the model's config, checked strictly; the others keep the paper's defaults. A field of a
            part goes in a table, ``loss={"beta": 2.5}``, or by its path, ``**{"loss.beta": 2.5}``. A table changes what
            it names, ``modalities={"image": {"likelihood": "laplace"}}``; one with ``use`` is a component anew.

    Returns:
        The model.

    Raises:
        UnknownComponentError: If no such model is installed.
        ConfigError: If a field does not exist or a value does not fit; it has all problems.
        DataError: If ``data`` is neither a data set nor a schema, or a module does not fit.

    Example:
        >>> import mvcore
        >>> model = mvcore.create("multimodal", mvcore.dataset("mfeat"), latent_dim=8)
        >>> model.config.latent_dim
        8
    """
    if seed is None:
        return create_from(name, data, fields, modules)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(arguments.seed("seed", seed))
        return create_from(name, data, fields, modules)


def create_from(
    name: str, data: Rows | Schema, fields: Mapping[str, Any], modules: Mapping[str, Any] | None = None
) -> Model:
    """As ``create``, whose own arguments no field of a table can be taken for."""
    registry = Registry.installed()
    schema = data if isinstance(data, Schema) else getattr(data, "schema", None)
    if not isinstance(schema, Schema):
        raise DataError(f"Expected a data set or its schema, for which to build a model; got {type(data).__name__}.")
    chosen, schema = configured(name, schema, fields, registry)
    if isinstance(data, Rows):
        warn_of_skew(data, chosen, fields)
    own = Given(modules or {}, schema)
    with given(own):
        model: Model = registry.build(chosen, schema)
    own.check_taken(model)
    model.unpackaged = tuple(own.described())
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
        encoder = given_encoder(m, latent_dim=latent, private_dim=private, context_dim=schema.context_dim)
        parts["encoders"][m.name] = encoder = registry.build(own.encoder, **sizes) if encoder is None else encoder
        try_encoder(f"The encoder of {m.name!r}", encoder, m, latent, private, schema.context_dim)
        largest = max(other.size for other in schema)
        parts["modality_weights"][m.name] = largest / m.size if own.weight == "dimension" else own.weight
    return Parts(**parts)


def _decoder(registry: Registry, own: ModalityConfig, sizes: Mapping[str, Any]) -> LikelihoodDecoder:
    """A modality's network with its likelihood."""
    m, width = sizes["modality"], sizes["latent_dim"] + sizes["private_dim"]
    likelihood = registry.build(own.likelihood, modality=m)
    network = given_decoder(m, n_outputs=likelihood.n_outputs, context_dim=sizes["context_dim"])
    if network is None:
        network = registry.build(own.decoder, **sizes, n_outputs=likelihood.n_outputs)
    try_decoder(f"The decoder network of {m.name!r}", network, m, width, likelihood.n_outputs, sizes["context_dim"])
    return LikelihoodDecoder(network, likelihood, target_of(m.shape, own.scale))


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
