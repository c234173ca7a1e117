"""Builders of the core's components: configs to modules. ``components`` names them; plugins may call them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature
from math import prod
from typing import Any, final

from attrs import frozen
from torch import nn

from mvcore import components as c
from mvcore.data.schema import ModalitySpec, Schema
from mvcore.data.transforms import Affine, InputTransform
from mvcore.distributions import likelihoods as lik
from mvcore.errors import ConfigError
from mvcore.losses.elbo import ELBO
from mvcore.losses.importance import IWAE, DReG
from mvcore.models.multimodal import MultimodalVAE
from mvcore.models.priors import StandardPrior
from mvcore.nn import conv, mlp, resnet
from mvcore.nn.joint import JointEncoder
from mvcore.plugins.registry import Registry
from mvcore.plugins.spec import ComponentConfig, DecoderConfig, EncoderConfig
from mvcore.posteriors.product import ProductOfExperts
from mvcore.samplers.prior import PriorSampler


def build_component(config: ComponentConfig, registry: Registry | None = None, **arguments: Any) -> Any:
    """Builds any component from its config, with the arguments that its kind's builders take."""
    registry = registry or Registry.installed()
    return registry.load(registry.entry_of(type(config))).builder()(config, **arguments)


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
    return builder(config, **arguments, context_dim=schema.context_dim)


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
        sizes = {"modality": m, "latent_dim": latent, "private_dim": (private_dims or {}).get(m.name, 0)}
        likelihood = build_component(own.likelihood, registry, modality=m)
        network = build_network(own.decoder, schema, registry, **sizes, n_outputs=likelihood.n_outputs)
        target = None if own.target == "none" else Affine(m.shape, own.target)
        parts["inputs"][m.name] = InputTransform(m.shape, own.input, m.categories)
        parts["encoders"][m.name] = build_network(own.encoder, schema, registry, **sizes)
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


def mlp_encoder(
    config: c.MLPEncoderConfig,
    *,
    modality: ModalitySpec,
    latent_dim: int,
    private_dim: int,
    context_dim: int = 0,
) -> mlp.MLPEncoder:
    """A fully connected encoder."""
    return mlp.MLPEncoder(
        modality.input_shape, latent_dim, private_dim, hidden=config.hidden, activation=config.activation,
        layer_norm=config.layer_norm, dropout=config.dropout, context_dim=context_dim,
    )  # fmt: skip


def mlp_decoder(
    config: c.MLPDecoderConfig,
    *,
    modality: ModalitySpec,
    latent_dim: int,
    private_dim: int,
    n_outputs: int,
    context_dim: int = 0,
) -> mlp.MLPDecoder:
    """A fully connected decoder."""
    return mlp.MLPDecoder(
        latent_dim + private_dim, modality.shape, n_outputs, hidden=config.hidden, activation=config.activation,
        layer_norm=config.layer_norm, dropout=config.dropout, context_dim=context_dim,
    )  # fmt: skip


def conv_encoder(
    config: c.ConvEncoderConfig,
    *,
    modality: ModalitySpec,
    latent_dim: int,
    private_dim: int,
    context_dim: int = 0,
) -> conv.ConvEncoder:
    """A convolutional encoder."""
    shape = conv.image_shape(modality.name, modality.input_shape)
    return conv.ConvEncoder(shape, latent_dim, private_dim, channels=config.channels, context_dim=context_dim)


def conv_decoder(
    config: c.ConvDecoderConfig,
    *,
    modality: ModalitySpec,
    latent_dim: int,
    private_dim: int,
    n_outputs: int,
    context_dim: int = 0,
) -> conv.ConvDecoder:
    """A convolutional decoder."""
    shape = conv.image_shape(modality.name, modality.shape)
    return conv.ConvDecoder(
        latent_dim + private_dim, shape, n_outputs, channels=config.channels, context_dim=context_dim
    )


def resnet_encoder(
    config: c.ResNetEncoderConfig, *, modality: ModalitySpec, latent_dim: int, private_dim: int, context_dim: int = 0
) -> resnet.ResNetEncoder:
    """A residual encoder."""
    shape = conv.image_shape(modality.name, modality.input_shape)
    return resnet.ResNetEncoder(shape, latent_dim, private_dim, channels=config.channels, context_dim=context_dim)


def resnet_decoder(
    config: c.ResNetDecoderConfig,
    *,
    modality: ModalitySpec,
    latent_dim: int,
    private_dim: int,
    n_outputs: int,
    context_dim: int = 0,
) -> resnet.ResNetDecoder:
    """A residual decoder."""
    shape = conv.image_shape(modality.name, modality.shape)
    return resnet.ResNetDecoder(
        latent_dim + private_dim, shape, n_outputs, channels=config.channels, context_dim=context_dim
    )


def normal(config: c.NormalConfig, *, modality: ModalitySpec) -> lik.NormalLikelihood:
    """Independent normals."""
    return lik.NormalLikelihood(modality.shape, scale=config.scale, learn=config.learn_scale)


def laplace(config: c.LaplaceConfig, *, modality: ModalitySpec) -> lik.LaplaceLikelihood:
    """Independent Laplace distributions."""
    return lik.LaplaceLikelihood(modality.shape, scale=config.scale, learn=config.learn_scale)


def student_t(config: c.StudentTConfig, *, modality: ModalitySpec) -> lik.StudentTLikelihood:
    """Independent Student t distributions."""
    return lik.StudentTLikelihood(modality.shape, df=config.df, scale=config.scale, learn=config.learn_scale)


def bernoulli(config: c.BernoulliConfig, *, modality: ModalitySpec) -> lik.BernoulliLikelihood:
    """Independent 0/1 values."""
    return lik.BernoulliLikelihood(modality.shape)


def categorical(config: c.CategoricalConfig, *, modality: ModalitySpec) -> lik.CategoricalLikelihood:
    """Independent categories."""
    if modality.categories is None:
        raise ConfigError([f"{modality.name}: a categorical likelihood needs the schema to say how many categories"])
    return lik.CategoricalLikelihood(modality.shape, modality.categories)


def poisson(config: c.PoissonConfig, *, modality: ModalitySpec) -> lik.PoissonLikelihood:
    """Counts whose variance is their mean."""
    return lik.PoissonLikelihood(modality.shape)


def negative_binomial(config: c.NegativeBinomialConfig, *, modality: ModalitySpec) -> lik.NegativeBinomialLikelihood:
    """Counts."""
    return lik.NegativeBinomialLikelihood(modality.shape)


def zero_inflated_negative_binomial(
    config: c.ZeroInflatedNegativeBinomialConfig, *, modality: ModalitySpec
) -> lik.ZeroInflatedNegativeBinomialLikelihood:
    """Counts with a surplus of zeros."""
    return lik.ZeroInflatedNegativeBinomialLikelihood(modality.shape)


def product(
    config: c.ProductConfig, *, modalities: Sequence[ModalitySpec], latent_dim: int, private_dims: Mapping[str, int]
) -> ProductOfExperts:
    """A product of experts."""
    return ProductOfExperts(
        [m.name for m in modalities], subsets=config.subsets, prior_expert=config.prior_expert, family=config.family,
        scale=config.scale,
    )  # fmt: skip


def standard_prior(
    config: c.StandardPriorConfig,
    *,
    modalities: Sequence[ModalitySpec],
    latent_dim: int,
    private_dims: Mapping[str, int],
) -> StandardPrior:
    """A standard prior."""
    return StandardPrior(
        latent_dim, private_dims, family=config.family, learn_scale=config.learn_scale, scale=config.scale
    )


def elbo(
    config: c.ELBOConfig, *, modalities: Sequence[ModalitySpec], latent_dim: int, private_dims: Mapping[str, int]
) -> ELBO:
    """The evidence lower bound."""
    return ELBO(
        beta=config.beta, warmup=config.warmup, beta_shared=config.beta_shared, beta_private=config.beta_private,
        kl=config.kl, samples=config.samples, stratified=config.stratified,
    )  # fmt: skip


def iwae(
    config: c.IWAEConfig, *, modalities: Sequence[ModalitySpec], latent_dim: int, private_dims: Mapping[str, int]
) -> IWAE:
    """The importance-weighted bound."""
    return IWAE(samples=config.samples, beta=config.beta, warmup=config.warmup, bound=config.bound)


def dreg(
    config: c.DReGConfig, *, modalities: Sequence[ModalitySpec], latent_dim: int, private_dims: Mapping[str, int]
) -> DReG:
    """The importance-weighted bound, doubly reparametrised."""
    return DReG(samples=config.samples, beta=config.beta, warmup=config.warmup, bound=config.bound)


def prior_sampler(config: c.PriorSamplerConfig) -> PriorSampler:
    """Draws from the model's prior."""
    return PriorSampler()
