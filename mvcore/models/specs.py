"""Configs of models: the parts of each modality, and the composed model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from attrs import Attribute, evolve, field, frozen

from mvcore.checked import Checked
from mvcore.data.scalings import parse, shaped
from mvcore.data.schema import ModalitySpec, Schema
from mvcore.errors import ConfigError
from mvcore.losses.specs import ELBOConfig
from mvcore.nn.specs import ConvDecoderConfig, ConvEncoderConfig, MLPDecoderConfig, MLPEncoderConfig
from mvcore.options import TrainingConfig
from mvcore.plugins.spec import (
    ComponentSpec,
    DecoderConfig,
    EncoderConfig,
    LikelihoodConfig,
    LossConfig,
    ModelConfig,
    ModelFacts,
    PosteriorConfig,
    PriorConfig,
)
from mvcore.posteriors.specs import ProductConfig
from mvcore.priors.specs import StandardPriorConfig
from mvcore.validators import not_negative, per_modality, positive, share, widths


@frozen(kw_only=True)
class ModalityConfig(Checked):
    """The parts of a model that belong to one modality."""

    encoder: EncoderConfig
    """The encoder's network."""
    decoder: DecoderConfig
    """The decoder's network."""
    likelihood: LikelihoodConfig
    """The likelihood of an observation given the latents."""
    input: str = field(default="none")
    """Transform before the encoder, fitted on training rows: ``standardize`` and ``minmax`` each feature, ``channels``
    each entry of the first dimension, ``image`` likewise, unless the training images lie in [-1, 1]. ``log``, ``log1p``
    and ``logit(low, high)`` are for positive and bounded numbers; ``log_standardize`` and ``log_channels``, and so of
    the others, standardise what they give."""
    target: str = field(default="none")
    """Scale on which the likelihood works, any of those of ``input``; log-likelihoods stay in data units. What
    ``log``, ``log1p`` or ``logit`` takes is all that is generated and imputed, and needs a likelihood whose mean is
    known after it. ``channels`` and ``image`` leave 0/1 values, categories and counts as they are."""
    weight: float | Literal["dimension"] = field(default=1.0)
    """Weight of the log-likelihood in the loss; ``dimension``: largest size of all modalities / the modality's size."""

    @input.validator
    def _check_input(self, attribute: Attribute[Any], value: Any) -> None:
        parse(value)

    @target.validator
    def _check_target(self, attribute: Attribute[Any], value: Any) -> None:
        curve, likelihood = parse(value).curve, self.likelihood
        if curve is not None and curve not in likelihood.curves:
            raise ValueError(
                f"target {value!r} needs a likelihood whose mean is known after {curve!r}, such as 'normal'; got "
                f"{type(likelihood).__name__}"
            )
        if value in ("standardize", "minmax") and likelihood.support == "positive":
            raise ValueError(f"target must be on the scale of logarithms for positive values, or 'none', got {value!r}")
        if value in ("standardize", "minmax") and likelihood.support != "real":
            raise ValueError(f"target must be 'none' for 0/1 values, categories and counts, got {value!r}")

    @weight.validator
    def _check_weight(self, attribute: Attribute[Any], value: Any) -> None:
        if value != "dimension":
            positive(self, attribute, value)

    @classmethod
    def default(cls, modality: ModalitySpec, likelihood: LikelihoodConfig) -> ModalityConfig:
        """The parts that fit a modality's shape and likelihood."""
        image = len(modality.shape) == 3 and min(modality.shape[1:]) >= 8 and modality.categories is None
        return cls(
            encoder=ConvEncoderConfig() if image else MLPEncoderConfig(),
            decoder=ConvDecoderConfig() if image else MLPDecoderConfig(),
            likelihood=likelihood,
            input=shaped(likelihood.default_input, modality.shape),
            target=shaped(likelihood.default_target, modality.shape),
        )

    @property
    def scale(self) -> str:
        """The target that is built: 0/1 values, categories and counts are never scaled, positive values as logs."""
        bent = parse(self.target).curve is not None
        return self.target if bent or self.likelihood.support == "real" else "none"


@frozen(kw_only=True)
class PartsConfig(ModelConfig):
    """What every shipped model's config has: the modalities' parts and the size of the latents."""

    modalities: Mapping[str, ModalityConfig] = field(factory=dict)
    """The parts of each modality; those left out get defaults that fit their shape and likelihood."""
    latent_dim: int = field(default=20, validator=positive)
    """Dimensions D of the shared latent."""

    def complete(self, schema: Schema, likelihoods: Mapping[str, LikelihoodConfig]) -> Self:
        """This config with every modality of the schema.

        Raises:
            ConfigError: If it names a modality that the schema does not have.
        """
        if unknown := [m for m in self.modalities if m not in schema.names]:
            raise ConfigError(
                [f"modalities.{m}: unknown modality (the data has {', '.join(schema.names)})" for m in unknown]
            )
        given = self.modalities
        parts = {m.name: given[m.name] if m.name in given else self.parts_for(m, likelihoods[m.name]) for m in schema}
        return evolve(self, modalities=parts)

    def parts_for(self, modality: ModalitySpec, likelihood: LikelihoodConfig) -> ModalityConfig:
        """The parts of a modality for which none are given."""
        return ModalityConfig.default(modality, likelihood)


@frozen(kw_only=True)
class SurrogateConfig(PartsConfig):
    """Base of the configs of models with a joint encoder and a normal surrogate for each modality."""

    samples: int = field(default=1, validator=positive)
    """Draws of each row's posterior."""
    joint_hidden: tuple[int, ...] = field(default=(512, 512), validator=widths)
    """Widths of the joint encoder's hidden layers. Tables enter it as they are, anything else through a network like
    the modality's encoder."""
    subsets: Literal["exact", "product"] = "exact"
    """Rows that lack a modality: ``exact``, the product of the surrogates over the prior that each of them but one
    counts too often; ``product``, the plain product of the public library, which gives its published numbers."""
    partial: Literal["elbo", "refuse"] = "elbo"
    """Such rows in training: ``elbo`` trains them on the bound of their surrogates' product, ``refuse`` raises."""


@frozen(kw_only=True)
class ComposedConfig(PartsConfig):
    """Base of the configs of multimodal VAEs composed of any posterior, prior and loss; a paper's is a subclass."""

    private_dim: int | Mapping[str, int] = field(default=0)
    """Dimensions of the private latents: one number for all modalities, or one for each named."""
    posterior: PosteriorConfig = field(factory=ProductConfig)
    """The joint posterior."""
    prior: PriorConfig = field(factory=StandardPriorConfig)
    """The prior of the shared and the private latents."""
    loss: LossConfig = field(factory=ELBOConfig)
    """The training objective."""
    modality_dropout: float = field(default=0.0, validator=share)
    """Probability with which each modality of a row is hidden from the posterior in training, given that one stays. All
    that the row has is scored, so a bound stays one, and the posterior of every subset learns to predict the rest."""

    def __attrs_post_init__(self) -> None:
        """Refuses parts that can't train together."""
        families = [getattr(part, "family", None) for part in (self.posterior, self.prior)]
        if None not in families and families[0] != families[1]:
            raise ValueError(
                f"posterior and prior must be of one family; got posterior.family={families[0]!r} and "
                f"prior.family={families[1]!r}"
            )
        if self.prior.is_mixture and getattr(self.posterior, "prior_expert", "none") != "none":
            raise ValueError(
                "a prior of several components can't be an expert of a product; set posterior.prior_expert='none', got "
                f"{self.posterior.prior_expert!r}"  # type: ignore[attr-defined]
            )
        if reason := self.loss.refuses(self) or self.loss.refuses_prior(self.prior):
            raise ValueError(reason)

    @property
    def has_private(self) -> bool:
        """Whether any modality has a private latent."""
        sizes = [self.private_dim] if isinstance(self.private_dim, int) else self.private_dim.values()
        return any(sizes)

    @private_dim.validator
    def _check_private(self, attribute: Attribute[Any], value: Any) -> None:
        for size in [value] if isinstance(value, int) else value.values():
            not_negative(self, attribute, size)

    def private_dims(self, schema: Schema) -> dict[str, int]:
        """Dimensions of each modality's private latent."""
        return per_modality("private_dim", self.private_dim, schema.names, 0)


@frozen(kw_only=True)
class MultimodalVAEConfig(ComposedConfig):
    """A multimodal VAE composed of any posterior, prior and loss; ``docs/defaults.md`` says what each default gains."""

    latent_dim: int = field(default=64, validator=positive)
    """Dimensions D of the shared latent; those that are not needed are switched off by their divergence."""
    loss: LossConfig = field(factory=lambda: ELBOConfig(beta=0.3))
    """The training objective."""
    modality_dropout: float = field(default=0.3, validator=share)

    def parts_for(self, modality: ModalitySpec, likelihood: LikelihoodConfig) -> ModalityConfig:
        """Layer norm, SiLU and dropout before the output for all that is no image, and a learned scale a feature."""
        parts = ModalityConfig.default(modality, likelihood)
        if not (isinstance(parts.encoder, MLPEncoderConfig) and isinstance(parts.decoder, MLPDecoderConfig)):
            return parts
        encoder = evolve(parts.encoder, activation="silu", layer_norm=True)
        decoder = evolve(parts.decoder, activation="silu", layer_norm=True, dropout=0.3)
        return evolve(parts, encoder=encoder, decoder=decoder, likelihood=likelihood.with_learned_scale())

    def recipe(self) -> TrainingConfig:
        """A learning rate that rises to 0.003 and falls again over 150 epochs."""
        return TrainingConfig(epochs=150, lr=3e-3, schedule="one_cycle")


multimodal = ComponentSpec(
    api=1,
    config=MultimodalVAEConfig,
    build="mvcore.models.multimodal:build_multimodal",
    summary="Multimodal VAE composed of any posterior, prior and loss",
    partial_data="Each row trains the bound of what it has; absent modalities cost nothing.",
    facts=ModelFacts(
        kind="any product or mixture",
        private="optional",
        likelihood="importance sampling from the posterior, stratified for mixtures",
        subsets="closed form",
        cost="that of the posterior: 1, M or 2^M − 1 densities",
    ),
)
