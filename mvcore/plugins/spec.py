"""What a plugin declares about one component; importing this module, or a plugin's spec, imports no torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from attrs import Attribute, field, frozen, validators

from mvcore.checked import Checked as Checked
from mvcore.options import TrainingConfig

if TYPE_CHECKING:
    from mvcore.data.schema import Schema

#: The values that a likelihood gives a probability to: any number, above 0, 0 … 1, whole numbers from 0, categories.
Support = Literal["real", "positive", "unit", "counts", "categories"]
API = 1  #: The plugin API of this mvcore; raised when a correct plugin would stop working.


class ComponentConfig(Checked):
    """Marker base of every config class; has no fields of its own. What does not fit is a ConfigError."""

    __slots__ = ()


class ModelConfig(ComponentConfig):
    """Base of the configs of models: ``build(config, schema)``."""

    __slots__ = ()

    def complete(self, schema: Schema, likelihoods: Mapping[str, LikelihoodConfig]) -> Self:
        """This config with what it must say of each modality of the data; ``mvcore.create`` asks for it.

        Args:
            schema: The modalities.
            likelihoods: The likelihood of each modality, as the data or the caller names it.

        Raises:
            ConfigError: If it does not fit the schema.
        """
        return self

    def recipe(self) -> TrainingConfig:
        """How ``mvcore.fit`` trains such a model where its caller does not say."""
        return TrainingConfig()


class EncoderConfig(ComponentConfig):
    """Base of the configs of encoders: ``build(config, *, modality, latent_dim, private_dim, context_dim)``."""

    __slots__ = ()


class DecoderConfig(ComponentConfig):
    """Base of the configs of decoders.

    Their builders are ``build(config, *, modality, latent_dim, private_dim, n_outputs, context_dim)``.
    """

    __slots__ = ()


class LikelihoodConfig(ComponentConfig):
    """Base of the configs of likelihoods: ``build(config, *, modality)``. A subclass says what its values are like."""

    __slots__ = ()

    support: ClassVar[Support] = "real"
    """The values that it gives a probability to."""
    default_input: ClassVar[str] = "standardize"
    """The transform before an encoder of such values, unless the caller says otherwise."""
    default_target: ClassVar[str] = "standardize"
    """The scale that it works on, unless the caller says otherwise; only real and positive values have another than
    ``none``."""
    curves: ClassVar[tuple[str, ...]] = ()
    """Which of ``log``, ``log1p`` and ``logit`` its target may have: those after which its mean is known, so that its
    observations answer ``in_data_units`` for them."""

    def with_learned_scale(self) -> Self:
        """The same with a scale learned for each feature, where it has a scale to learn."""
        return self


class PosteriorConfig(ComponentConfig):
    """Base of the configs of joint posteriors: ``build(config, *, modalities, latent_dim, private_dims)``."""

    __slots__ = ()


class PriorConfig(ComponentConfig):
    """Base of the configs of priors: ``build(config, *, modalities, latent_dim, private_dims)``."""

    __slots__ = ()

    @property
    def is_mixture(self) -> bool:
        """Whether the density of the shared latent has several components, and so no divergence in closed form."""
        return False


class LossConfig(ComponentConfig):
    """Base of the configs of losses: ``build(config, *, modalities, latent_dim, private_dims)``."""

    __slots__ = ()

    def refuses(self, model: Any) -> str | None:
        """Why this loss can't train a model of this config, as a sentence; None if it can.

        Args:
            model: A ``mvcore.models.ComposedConfig``, whose ``posterior``, ``prior``, ``has_private`` and
                ``modality_dropout`` the loss may ask for.
        """
        return None

    def refuses_prior(self, prior: PriorConfig) -> str | None:
        """Why this loss can't train under a prior, as a sentence; None if it can.

        By default a prior of several components is refused: it is no one density to take a divergence from. A loss that
        takes the prior's log-density at its draws alone overrides this.
        """
        if not prior.is_mixture:
            return None
        return (
            "this loss takes a divergence from the prior in closed form, which a prior of several components does not "
            "have; set the loss to 'iwae', or to 'elbo' with kl='monte_carlo'"
        )


class SamplerConfig(ComponentConfig):
    """Base of the configs of samplers: ``build(config, *, latent_shapes)``."""

    __slots__ = ()


class MetricConfig(ComponentConfig):
    """Base of the configs of metrics: ``build(config)``."""

    __slots__ = ()


class DatasetConfig(ComponentConfig):
    """Base of the configs of datasets: ``build(config)``."""

    __slots__ = ()


#: Each kind of component with the base of its configs; the entry-point group of a kind is ``mvcore.<kind>``.
KINDS: Mapping[str, type[ComponentConfig]] = MappingProxyType(
    {
        "model": ModelConfig,
        "encoder": EncoderConfig,
        "decoder": DecoderConfig,
        "likelihood": LikelihoodConfig,
        "posterior": PosteriorConfig,
        "prior": PriorConfig,
        "loss": LossConfig,
        "sampler": SamplerConfig,
        "metric": MetricConfig,
        "dataset": DatasetConfig,
    }
)


def _names_a_function(_spec: object, attribute: Attribute[str], value: str) -> None:
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", value):
        raise ValueError(f"{attribute.name} is {value!r}, expected 'module:function'.")


_FUNCTION = validators.and_(validators.instance_of(str), _names_a_function)


@frozen(kw_only=True)
class ModelFacts(Checked):
    """What a model can do, in a few words each, for the table of ``mvcore plugins --matrix``."""

    kind: str
    """How the modalities meet: product or mixture of experts, joint encoder, hierarchy."""
    private: str
    """Whether a modality has latents of its own: ``no``, ``optional``, ``yes``."""
    likelihood: str
    """How log p of a row is estimated; ``none`` of a model without a density, which its suite holds it to."""
    subsets: str
    """How any subset of the modalities is conditioned on."""
    cost: str
    """What a training step costs in the number M of modalities, beside running each network once."""


@frozen(kw_only=True)
class ComponentSpec:
    """A component, described without importing the code that computes.

    Args:
        api: The plugin API the component was written for, a literal number. It has no default: one taken from the
            installed mvcore would always fit.
        config: The attrs class whose fields are the component's hyper-parameters; derives from its kind's base.
        build: The builder as ``"module:function"``, imported on first use; its arguments depend on the kind.
        revision: Raised when equal configs start to give other numbers or other weights.
        summary: One line for lists.
        paper: The address of the paper.
        partial_data: For models: one sentence on how rows without all modalities are trained.
        facts: For models: what they can do, for comparisons.
        migrate: Reads configs of earlier revisions, as ``"module:function"``: from the plain fields as they were
            written and their revision to the plain fields of this revision. Weights must fit as they are. Its module
            imports no torch. None: configs of other revisions are refused.
        figure: For metrics: draws a report's values of this metric, as ``"module:function"`` from a ``Report`` to a
            matplotlib figure, or to None where the report has none. Imported when a report is drawn.
    """

    api: int = field(validator=validators.instance_of(int))
    config: type[ComponentConfig]
    build: str = field(validator=_FUNCTION)
    revision: int = field(default=1, validator=[validators.instance_of(int), validators.ge(1)])
    summary: str = ""
    paper: str | None = None
    partial_data: str = ""
    facts: ModelFacts | None = None
    migrate: str | None = field(default=None, validator=validators.optional(_FUNCTION))
    figure: str | None = field(default=None, validator=validators.optional(_FUNCTION))

    def builder(self) -> Callable[..., Any]:
        """The function that builds the component; the first call imports its module, and with it torch.

        Raises:
            ImportError: If the module cannot be imported.
            AttributeError: If the module has no such function.
        """
        return _function(self.build)

    def drawer(self) -> Callable[[Any], Any] | None:
        """The function that draws a report, None where the spec names none; raises as ``builder`` does."""
        return None if self.figure is None else _function(self.figure)

    def migrated(self, fields: Mapping[str, Any], revision: int) -> Mapping[str, Any]:
        """The plain fields of an earlier revision as those of this one.

        Raises:
            ValueError: If the spec names no migration, the revision is a later one, or the migration fails.
        """
        if self.migrate is None or not 1 <= revision < self.revision:
            raise ValueError(f"expected revision {self.revision}, got {revision!r}")
        try:
            changed: Mapping[str, Any] = _function(self.migrate)(dict(fields), revision)
        except Exception as cause:
            raise ValueError(
                f"{self.migrate!r} cannot read revision {revision}: {type(cause).__name__}: {cause}"
            ) from cause
        return changed


def _function(path: str) -> Callable[..., Any]:
    module, _, name = path.partition(":")
    function: Callable[..., Any] = getattr(import_module(module), name)
    return function
