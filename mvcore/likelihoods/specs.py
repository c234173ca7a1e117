"""Configs and specs of the core's likelihoods."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from attrs import evolve, field, frozen, validators

from mvcore.plugins.spec import ComponentSpec, LikelihoodConfig, Support
from mvcore.validators import positive

LearnScale = Literal["no", "feature", "predicted"]


@frozen(kw_only=True)
class NormalConfig(LikelihoodConfig):
    """Independent normals."""

    curves: ClassVar[tuple[str, ...]] = ("log", "log1p", "logit")

    scale: float = field(default=1.0, validator=positive)
    """The standard deviation, in the units of the target transform; where it is learned, its start."""
    learn_scale: LearnScale = "no"
    """``feature``: one learned scale for each feature; ``predicted``: the decoder gives it for each value."""

    def with_learned_scale(self) -> Self:
        """The same with a scale learned for each feature."""
        return evolve(self, learn_scale="feature")


@frozen(kw_only=True)
class LogNormalConfig(LikelihoodConfig):
    """Independent log-normals, for positive values such as concentrations."""

    support: ClassVar[Support] = "positive"
    default_input: ClassVar[str] = "log_standardize"
    default_target: ClassVar[str] = "log_standardize"
    curves: ClassVar[tuple[str, ...]] = ("log",)

    scale: float = field(default=1.0, validator=positive)
    """The standard deviation of the logarithm, in the units of the target transform; where it is learned, its start."""
    learn_scale: LearnScale = "no"
    """``feature``: one learned scale for each feature; ``predicted``: the decoder gives it for each value."""

    def with_learned_scale(self) -> Self:
        """The same with a scale learned for each feature."""
        return evolve(self, learn_scale="feature")


@frozen(kw_only=True)
class LaplaceConfig(LikelihoodConfig):
    """Independent Laplace distributions."""

    scale: float = field(default=1.0, validator=positive)
    """The scale, in the units of the target transform; where it is learned, its start."""
    learn_scale: LearnScale = "no"
    """``feature``: one learned scale for each feature; ``predicted``: the decoder gives it for each value."""

    def with_learned_scale(self) -> Self:
        """The same with a scale learned for each feature."""
        return evolve(self, learn_scale="feature")


@frozen(kw_only=True)
class StudentTConfig(LikelihoodConfig):
    """Independent Student t distributions, for values with outliers."""

    df: float = field(default=5.0, validator=validators.gt(2))
    """Degrees of freedom; above 2, so that the variance is finite."""
    scale: float = field(default=1.0, validator=positive)
    """The scale, in the units of the target transform; where it is learned, its start."""
    learn_scale: LearnScale = "no"
    """``feature``: one learned scale for each feature; ``predicted``: the decoder gives it for each value."""

    def with_learned_scale(self) -> Self:
        """The same with a scale learned for each feature."""
        return evolve(self, learn_scale="feature")


@frozen(kw_only=True)
class BernoulliConfig(LikelihoodConfig):
    """Independent 0/1 values, from logits."""

    support: ClassVar[Support] = "unit"
    default_input: ClassVar[str] = "none"
    default_target: ClassVar[str] = "none"


@frozen(kw_only=True)
class CategoricalConfig(LikelihoodConfig):
    """Independent categories 0 … categories − 1, as many as the schema says."""

    support: ClassVar[Support] = "categories"
    default_input: ClassVar[str] = "none"
    default_target: ClassVar[str] = "none"


class _CountConfig(LikelihoodConfig):
    """Base of the configs of counts."""

    __slots__ = ()

    support: ClassVar[Support] = "counts"
    default_input: ClassVar[str] = "log1p_standardize"
    default_target: ClassVar[str] = "none"


@frozen(kw_only=True)
class PoissonConfig(_CountConfig):
    """Counts whose variance is their mean."""


@frozen(kw_only=True)
class NegativeBinomialConfig(_CountConfig):
    """Counts, with a learned dispersion for each feature."""


@frozen(kw_only=True)
class ZeroInflatedNegativeBinomialConfig(_CountConfig):
    """Counts with more zeros than a negative binomial has, and a learned dispersion for each feature."""


normal = ComponentSpec(
    api=1,
    config=NormalConfig,
    build="mvcore.likelihoods.real:build_normal",
    summary="Independent normals",
)
log_normal = ComponentSpec(
    api=1,
    config=LogNormalConfig,
    build="mvcore.likelihoods.real:build_log_normal",
    summary="Independent log-normals, for positive values",
)
laplace = ComponentSpec(
    api=1,
    config=LaplaceConfig,
    build="mvcore.likelihoods.real:build_laplace",
    summary="Independent Laplace distributions",
)
student_t = ComponentSpec(
    api=1,
    config=StudentTConfig,
    build="mvcore.likelihoods.real:build_student_t",
    summary="Independent Student t distributions, for values with outliers",
)
bernoulli = ComponentSpec(
    api=1,
    config=BernoulliConfig,
    build="mvcore.likelihoods.discrete:build_bernoulli",
    summary="Independent 0/1 values",
)
categorical = ComponentSpec(
    api=1,
    config=CategoricalConfig,
    build="mvcore.likelihoods.discrete:build_categorical",
    summary="Independent categories",
)
poisson = ComponentSpec(
    api=1,
    config=PoissonConfig,
    build="mvcore.likelihoods.counts:build_poisson",
    summary="Counts whose variance is their mean",
)
negative_binomial = ComponentSpec(
    api=1,
    config=NegativeBinomialConfig,
    build="mvcore.likelihoods.counts:build_negative_binomial",
    summary="Counts with a learned dispersion",
)
zero_inflated_negative_binomial = ComponentSpec(
    api=1,
    config=ZeroInflatedNegativeBinomialConfig,
    build="mvcore.likelihoods.counts:build_zero_inflated_negative_binomial",
    summary="Counts with a surplus of zeros",
)
