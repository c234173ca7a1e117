"""The core's own components: their configs and specs, registered as any plugin's are. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from attrs import Attribute, evolve, field, frozen

from mvcore.data.schema import ModalitySpec, Schema
from mvcore.errors import ConfigError
from mvcore.plugins.spec import (
    ComponentSpec,
    DatasetConfig,
    DecoderConfig,
    EncoderConfig,
    LikelihoodConfig,
    LossConfig,
    ModelConfig,
    PosteriorConfig,
    PriorConfig,
    SamplerConfig,
)

Activation = Literal["relu", "gelu", "silu", "tanh", "leaky_relu"]
Family = Literal["normal", "laplace"]
ScaleMap = Literal["exp", "softmax"]


def _positive(instance: Any, attribute: Attribute[Any], value: Any) -> None:
    if not value > 0:
        raise ValueError(f"{attribute.name} must be greater than 0, got {value!r}")


def _not_negative(instance: Any, attribute: Attribute[Any], value: Any) -> None:
    if not value >= 0:
        raise ValueError(f"{attribute.name} must be 0 or greater, got {value!r}")


def _all_positive(instance: Any, attribute: Attribute[Any], value: Any) -> None:
    if not all(v > 0 for v in value):
        raise ValueError(f"{attribute.name} must hold positive widths, got {value!r}")


def _share(instance: Any, attribute: Attribute[Any], value: Any) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{attribute.name} must be in [0, 1), got {value!r}")


@frozen(kw_only=True)
class MLPEncoderConfig(EncoderConfig):
    """A fully connected encoder."""

    hidden: tuple[int, ...] = field(default=(512, 512), validator=_all_positive)
    """Widths of the hidden layers."""
    activation: Activation = "relu"
    """Activation after each hidden layer."""
    layer_norm: bool = False
    """Whether each hidden layer is normalised before its activation."""
    dropout: float = field(default=0.0, validator=_share)
    """Share of the hidden units dropped in training."""


@frozen(kw_only=True)
class MLPDecoderConfig(DecoderConfig):
    """A fully connected decoder."""

    hidden: tuple[int, ...] = field(default=(512,), validator=_all_positive)
    """Widths of the hidden layers."""
    activation: Activation = "relu"
    """Activation after each hidden layer."""
    layer_norm: bool = False
    """Whether each hidden layer is normalised before its activation."""
    dropout: float = field(default=0.0, validator=_share)
    """Share of the hidden units dropped in training."""


@frozen(kw_only=True)
class ConvEncoderConfig(EncoderConfig):
    """Convolutions of kernel 4 and stride 2, for images of any size from 8 × 8."""

    channels: tuple[int, ...] = field(default=(32, 64, 128), validator=_all_positive)
    """Channels after each halving of the image."""


@frozen(kw_only=True)
class ConvDecoderConfig(DecoderConfig):
    """Transposed convolutions of kernel 4 and stride 2, for images of any size from 8 × 8."""

    channels: tuple[int, ...] = field(default=(32, 64, 128), validator=_all_positive)
    """Channels before each doubling of the image, from the last."""


@frozen(kw_only=True)
class NormalConfig(LikelihoodConfig):
    """Independent normals."""

    scale: float = field(default=1.0, validator=_positive)
    """The standard deviation, in the units of the target transform; where it is learned, its start."""
    learn_scale: Literal["no", "feature", "predicted"] = "no"
    """``feature``: one learned scale for each feature; ``predicted``: the decoder gives it for each value."""


@frozen(kw_only=True)
class LaplaceConfig(LikelihoodConfig):
    """Independent Laplace distributions."""

    scale: float = field(default=1.0, validator=_positive)
    """The scale, in the units of the target transform; where it is learned, its start."""
    learn_scale: Literal["no", "feature", "predicted"] = "no"
    """``feature``: one learned scale for each feature; ``predicted``: the decoder gives it for each value."""


@frozen(kw_only=True)
class BernoulliConfig(LikelihoodConfig):
    """Independent 0/1 values, from logits."""


@frozen(kw_only=True)
class CategoricalConfig(LikelihoodConfig):
    """Independent categories 0 … categories − 1, as many as the schema says."""


@frozen(kw_only=True)
class NegativeBinomialConfig(LikelihoodConfig):
    """Counts, with a learned dispersion for each feature."""


@frozen(kw_only=True)
class ProductConfig(PosteriorConfig):
    """A product of experts over one or more subsets of the observed modalities."""

    subsets: Literal["observed", "each", "all"] = "observed"
    """``observed``: one product of all that a row has; ``each``: a mixture of the single experts; ``all``: a mixture of
    the products of every non-empty subset."""
    prior_expert: Literal["none", "every", "full"] = "every"
    """Which products have the prior as one more expert; ``full``: that of all the model's modalities alone."""
    family: Family = "normal"
    """Family of the experts; a Laplace has no product, so it needs the subsets ``each`` and no prior expert."""
    scale: ScaleMap = "exp"
    """Map from an encoder's log-scale to a scale: ``exp``, or ``softmax``: D · softmax (Shi et al., 2019)."""

    def __attrs_post_init__(self) -> None:
        """Refuses products that are not of the family."""
        if self.family == "laplace" and (self.subsets, self.prior_expert) != ("each", "none"):
            raise ValueError(
                "a product of Laplace experts is not Laplace; set subsets='each' and prior_expert='none', got "
                f"subsets={self.subsets!r} and prior_expert={self.prior_expert!r}"
            )


@frozen(kw_only=True)
class StandardPriorConfig(PriorConfig):
    """Location 0 and scale 1, or a learned scale of the shared latent."""

    family: Family = "normal"
    """Family of the prior; that of the posterior."""
    learn_scale: bool = False
    """Whether the scale of the shared latent is learned."""
    scale: ScaleMap = "exp"
    """Map to the learned scale: ``exp``, or ``softmax``: D · softmax (Shi et al., 2019)."""


@frozen(kw_only=True)
class ELBOConfig(LossConfig):
    """The evidence lower bound."""

    beta: float = field(default=1.0, validator=_not_negative)
    """Weight β of all divergences."""
    warmup: float = field(default=0.0, validator=_not_negative)
    """Epochs over which β grows linearly from 0."""
    beta_shared: float = field(default=1.0, validator=_not_negative)
    """Weight of the shared latent's divergence, times β."""
    beta_private: float = field(default=1.0, validator=_not_negative)
    """Weight of the private latents' divergences, times β."""
    kl: Literal["convex", "monte_carlo"] = "convex"
    """A mixture's divergence: ``convex``, a bound in closed form, or ``monte_carlo``, tighter. Equal if C = 1."""
    samples: int = field(default=1, validator=_positive)
    """Draws for each row, or, stratified, for each component."""
    stratified: bool = False
    """Whether every component of a mixture is drawn from, instead of one drawn at random for each row."""


@frozen(kw_only=True)
class IWAEConfig(LossConfig):
    """The importance-weighted bound."""

    samples: int = field(default=10, validator=_positive)
    """Draws K from each component."""
    beta: float = field(default=1.0, validator=_not_negative)
    """Weight β of log p(z) − log q(z)."""
    warmup: float = field(default=0.0, validator=_not_negative)
    """Epochs over which β grows linearly from 0."""
    bound: Literal["looser", "tight"] = "looser"
    """The logarithm is taken within each component (``looser``) or of the whole mixture (``tight``)."""


@frozen(kw_only=True)
class DReGConfig(IWAEConfig):
    """The importance-weighted bound with the doubly reparametrised gradient; for mixtures it has a bias."""


@frozen(kw_only=True)
class PriorSamplerConfig(SamplerConfig):
    """Draws from the model's prior."""


@frozen(kw_only=True)
class MfeatConfig(DatasetConfig):
    """UCI Multiple Features: 2,000 handwritten digits in six views; complete rows."""


@frozen(kw_only=True)
class MiniACCConfig(DatasetConfig):
    """Adrenocortical carcinoma (TCGA): 92 patients, five blocks, naturally partial."""

    log1p: bool = True
    """Whether the RNA and miRNA blocks come as log(1 + value), the scale on which they are modelled."""


@frozen(kw_only=True)
class ModalityConfig:
    """The parts of a model that belong to one modality."""

    encoder: EncoderConfig
    """The encoder's network."""
    decoder: DecoderConfig
    """The decoder's network."""
    likelihood: LikelihoodConfig
    """The likelihood of an observation given the latents."""
    input: Literal["none", "standardize", "minmax", "log1p", "log1p_standardize"] = "none"
    """Transform before the encoder, fitted on training rows."""
    target: Literal["none", "standardize", "minmax"] = field(default="none")
    """Scale on which the likelihood works, fitted on training rows; log-likelihoods stay in data units."""
    weight: float | Literal["dimension"] = field(default=1.0)
    """Weight of the log-likelihood in the loss; ``dimension``: largest size of all modalities / the modality's size."""

    @target.validator
    def _check_target(self, attribute: Attribute[Any], value: Any) -> None:
        if value != "none" and isinstance(
            self.likelihood, BernoulliConfig | CategoricalConfig | NegativeBinomialConfig
        ):
            raise ValueError(f"target must be 'none' for 0/1 values, categories and counts, got {value!r}")

    @weight.validator
    def _check_weight(self, attribute: Attribute[Any], value: Any) -> None:
        if value != "dimension":
            _positive(self, attribute, value)

    @classmethod
    def default(cls, modality: ModalitySpec) -> ModalityConfig:
        """The parts that fit a modality's shape and likelihood."""
        image = len(modality.shape) == 3 and min(modality.shape[1:]) >= 8
        real = modality.likelihood in ("normal", "laplace") and len(modality.shape) == 1
        likelihood = _LIKELIHOODS.get(modality.likelihood)
        if likelihood is None:
            known = ", ".join(_LIKELIHOODS)
            raise ConfigError(
                [f"{modality.name}: no default for the likelihood {modality.likelihood!r} (known: {known})"]
            )
        return cls(
            encoder=ConvEncoderConfig() if image else MLPEncoderConfig(),
            decoder=ConvDecoderConfig() if image else MLPDecoderConfig(),
            likelihood=likelihood(),
            input="log1p_standardize" if likelihood is NegativeBinomialConfig else "standardize" if real else "none",
            target="standardize" if real else "none",
        )


_LIKELIHOODS: Mapping[str, type[LikelihoodConfig]] = {
    "normal": NormalConfig,
    "laplace": LaplaceConfig,
    "bernoulli": BernoulliConfig,
    "categorical": CategoricalConfig,
    "negative_binomial": NegativeBinomialConfig,
}


@frozen(kw_only=True)
class PartsConfig(ModelConfig):
    """What every shipped model's config has: the modalities' parts and the size of the latents."""

    modalities: Mapping[str, ModalityConfig] = field(factory=dict)
    """The parts of each modality; those left out get defaults that fit their shape and likelihood."""
    latent_dim: int = field(default=20, validator=_positive)
    """Dimensions D of the shared latent."""

    def complete(self, schema: Schema) -> Any:
        """This config with every modality of the schema.

        Raises:
            ConfigError: If it names a modality that the schema does not have.
        """
        if unknown := [m for m in self.modalities if m not in schema.names]:
            raise ConfigError(
                [f"modalities.{m}: unknown modality (the data has {', '.join(schema.names)})" for m in unknown]
            )
        given = self.modalities
        parts = {m.name: given[m.name] if m.name in given else ModalityConfig.default(m) for m in schema}
        return evolve(self, modalities=parts)


@frozen(kw_only=True)
class MultimodalVAEConfig(PartsConfig):
    """A multimodal VAE composed of any posterior, prior and loss."""

    private_dim: int | Mapping[str, int] = field(default=0)
    """Dimensions of the private latents: one number for all modalities, or one for each named."""
    posterior: PosteriorConfig = field(factory=ProductConfig)
    """The joint posterior."""
    prior: PriorConfig = field(factory=StandardPriorConfig)
    """The prior of the shared and the private latents."""
    loss: LossConfig = field(factory=ELBOConfig)
    """The training objective."""

    def __attrs_post_init__(self) -> None:
        """Refuses a loss that can't train the posterior."""
        if reason := self.loss.refuses(self.posterior):
            raise ValueError(reason)

    @private_dim.validator
    def _check_private(self, attribute: Attribute[Any], value: Any) -> None:
        for size in [value] if isinstance(value, int) else value.values():
            _not_negative(self, attribute, size)

    def private_dims(self, schema: Schema) -> dict[str, int]:
        """Dimensions of each modality's private latent."""
        if isinstance(self.private_dim, int):
            return dict.fromkeys(schema.names, self.private_dim)
        if unknown := set(self.private_dim) - set(schema.names):
            raise ConfigError([f"private_dim: unknown modality {m!r}" for m in sorted(unknown)])
        return {m: self.private_dim.get(m, 0) for m in schema.names}


def _spec(config: type[Any], build: str, summary: str, paper: str | None = None, partial: str = "") -> ComponentSpec:
    module = "data.shipped" if issubclass(config, DatasetConfig) else "build"
    return ComponentSpec(
        api=1, config=config, build=f"mvcore.{module}:{build}", summary=summary, paper=paper, partial_data=partial
    )


mlp_encoder = _spec(MLPEncoderConfig, "mlp_encoder", "Fully connected encoder")
mlp_decoder = _spec(MLPDecoderConfig, "mlp_decoder", "Fully connected decoder")
conv_encoder = _spec(ConvEncoderConfig, "conv_encoder", "Convolutional encoder for images")
conv_decoder = _spec(ConvDecoderConfig, "conv_decoder", "Convolutional decoder for images")
normal = _spec(NormalConfig, "normal", "Independent normals")
laplace = _spec(LaplaceConfig, "laplace", "Independent Laplace distributions")
bernoulli = _spec(BernoulliConfig, "bernoulli", "Independent 0/1 values")
categorical = _spec(CategoricalConfig, "categorical", "Independent categories")
negative_binomial = _spec(NegativeBinomialConfig, "negative_binomial", "Counts with a learned dispersion")
product = _spec(ProductConfig, "product", "Product of experts, or mixture of such products over subsets")
standard_prior = _spec(StandardPriorConfig, "standard_prior", "Standard normal or Laplace, or a learned scale")
elbo = _spec(ELBOConfig, "elbo", "Evidence lower bound")
iwae = _spec(IWAEConfig, "iwae", "Importance-weighted bound", "https://arxiv.org/abs/1509.00519")
dreg = _spec(DReGConfig, "dreg", "Importance-weighted bound, doubly reparametrised", "https://arxiv.org/abs/1810.04152")
prior_sampler = _spec(PriorSamplerConfig, "prior_sampler", "Draws from the model's prior")
mfeat = _spec(MfeatConfig, "mfeat", "2,000 handwritten digits in six views", "https://doi.org/10.24432/C5HC70")
miniacc = _spec(MiniACCConfig, "miniacc", "92 patients with adrenocortical carcinoma in five blocks, partial")
multimodal = _spec(
    MultimodalVAEConfig,
    "multimodal",
    "Multimodal VAE composed of any posterior, prior and loss",
    partial="Each row trains the bound of what it has; absent modalities cost nothing.",
)
