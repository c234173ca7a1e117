"""Builders of the core's parts: configs to modules. ``components`` names them; plugins may call them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mvcore import components as c
from mvcore.data.schema import ModalitySpec
from mvcore.distributions import likelihoods as lik
from mvcore.errors import ConfigError
from mvcore.losses.elbo import ELBO
from mvcore.losses.importance import IWAE, DReG
from mvcore.models.priors import StandardPrior
from mvcore.nn import conv, mlp, resnet
from mvcore.posteriors.product import ProductOfExperts
from mvcore.samplers.prior import PriorSampler


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
