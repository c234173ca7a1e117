"""Puts models together from their configs; plugins may call it. The builders of parts stand in ``builders``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature
from math import prod
from typing import Any, final

from attrs import frozen
from torch import nn

from mvcore import components as c
from mvcore.construction import build_entry
from mvcore.data.schema import Schema
from mvcore.data.transforms import Affine, InputTransform
from mvcore.distributions import likelihoods as lik
from mvcore.errors import ConfigError
from mvcore.models.multimodal import MultimodalVAE
from mvcore.models.trial import try_decoder, try_encoder
from mvcore.nn.joint import JointEncoder
from mvcore.plugins.registry import Registry
from mvcore.plugins.spec import ComponentConfig, DecoderConfig, EncoderConfig


def build_component(config: ComponentConfig, registry: Registry | None = None, **arguments: Any) -> Any:
    """Builds any component from its config, with the arguments that its kind's builders take.

    Raises:
        BrokenPluginError: If its builder takes other arguments, or gives what no component of its kind is.
        ConfigError: If it can't be built from these.
    """
    registry = registry or Registry.installed()
    entry = registry.entry_of(type(config))
    return build_entry(entry, registry.load(entry), config, **arguments)


def build_network(
    config: EncoderConfig | DecoderConfig, schema: Schema, registry: Registry | None = None, **arguments: Any
) -> Any:
    """Builds an encoder or a decoder, which is told ``context_dim`` where the schema has covariates.

    Raises:
        ConfigError: If the schema has covariates and the component can't take them.
    """
    if not schema.context:
        return build_component(config, registry, **arguments)
    registry = registry or Registry.installed()
    entry = registry.entry_of(type(config))
    builder = registry.load(entry).builder()
    if "context_dim" not in signature(builder).parameters:
        names = ", ".join(covariate.name for covariate in schema.context)
        raise ConfigError(
            [f"{arguments['modality'].name}: the {entry.kind} {entry.id!r} takes no covariates, and the data has "
             f"{names}; choose another {entry.kind}, or leave them out"]
        )  # fmt: skip
    return build_entry(entry, registry.load(entry), config, **arguments, context_dim=schema.context_dim)


def build_joint_encoder(config: c.PartsConfig, schema: Schema, hidden: Sequence[int]) -> JointEncoder:
    """An encoder of all modalities together: tables as they are, anything else through a network like its encoder.

    Args:
        config: The model's config, with every modality of the schema.
        schema: The modalities.
        hidden: Widths of the hidden layers that see all modalities.
    """
    width = max(1, hidden[0] // 2)  # each network gives two vectors, together as wide as the first layer
    networks, sizes = {}, {}
    for m in schema:
        sizes[m.name] = prod(m.input_shape) if len(m.shape) == 1 else 2 * width
        if len(m.shape) > 1:
            encoder = config.modalities[m.name].encoder
            networks[m.name] = build_network(encoder, schema, modality=m, latent_dim=width, private_dim=0)
    return JointEncoder(sizes, networks, config.latent_dim, hidden, context_dim=schema.context_dim)


@final
@frozen
class Parts:
    """The modules of a model that belong to its modalities, by name."""

    inputs: Mapping[str, InputTransform]
    encoders: Mapping[str, nn.Module]
    decoders: Mapping[str, lik.LikelihoodDecoder]
    weights: Mapping[str, float]


def build_parts(
    config: c.PartsConfig,
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
        private = (private_dims or {}).get(m.name, 0)
        sizes: dict[str, Any] = {"modality": m, "latent_dim": latent, "private_dim": private}
        likelihood = build_component(own.likelihood, registry, modality=m)
        network = build_network(own.decoder, schema, registry, **sizes, n_outputs=likelihood.n_outputs)
        target = None if own.target == "none" else Affine(m.shape, own.target)
        parts["inputs"][m.name] = InputTransform(m.shape, own.input, m.categories)
        parts["encoders"][m.name] = encoder = build_network(own.encoder, schema, registry, **sizes)
        told, decoder = schema.context_dim, f"The decoder network of {m.name!r}"
        try_encoder(f"The encoder of {m.name!r}", encoder, m, latent, private, told)
        try_decoder(decoder, network, m, latent + private, likelihood.n_outputs, told)
        parts["decoders"][m.name] = lik.LikelihoodDecoder(network, likelihood, target)
        largest = max(other.size for other in schema)
        parts["weights"][m.name] = largest / m.size if own.weight == "dimension" else own.weight
    return Parts(**parts)


def multimodal(config: c.ComposedConfig, schema: Schema) -> MultimodalVAE:
    """The composed model; aggregated plugins build with it too."""
    private_dims, registry = config.private_dims(schema), Registry.installed()
    parts = build_parts(config, schema, private_dims=private_dims)
    sizes: dict[str, Any] = {
        "modalities": schema.modalities, "latent_dim": config.latent_dim, "private_dims": private_dims
    }  # fmt: skip
    return MultimodalVAE(
        schema,
        latent_dim=config.latent_dim,
        encoders=parts.encoders,
        decoders=parts.decoders,
        inputs=parts.inputs,
        weights=parts.weights,
        private_dims=private_dims,
        posterior=build_component(config.posterior, registry, **sizes),
        prior=build_component(config.prior, registry, **sizes),
        loss=build_component(config.loss, registry, **sizes),
        modality_dropout=config.modality_dropout,
        config=config,
    )
