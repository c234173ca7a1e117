"""Configs and specs of the core's likelihoods."""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen, validators

from mvcore.components.base import spec
from mvcore.plugins.spec import LikelihoodConfig
from mvcore.validators import positive


@frozen(kw_only=True)
class NormalConfig(LikelihoodConfig):
    """Independent normals."""

    scale: float = field(default=1.0, validator=positive)
    """The standard deviation, in the units of the target transform; where it is learned, its start."""
    learn_scale: Literal["no", "feature", "predicted"] = "no"
    """``feature``: one learned scale for each feature; ``predicted``: the decoder gives it for each value."""


@frozen(kw_only=True)
class LaplaceConfig(LikelihoodConfig):
    """Independent Laplace distributions."""

    scale: float = field(default=1.0, validator=positive)
    """The scale, in the units of the target transform; where it is learned, its start."""
    learn_scale: Literal["no", "feature", "predicted"] = "no"
    """``feature``: one learned scale for each feature; ``predicted``: the decoder gives it for each value."""


@frozen(kw_only=True)
class StudentTConfig(LikelihoodConfig):
    """Independent Student t distributions, for values with outliers."""

    df: float = field(default=5.0, validator=validators.gt(2))
    """Degrees of freedom; above 2, so that the variance is finite."""
    scale: float = field(default=1.0, validator=positive)
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
class PoissonConfig(LikelihoodConfig):
    """Counts whose variance is their mean."""


@frozen(kw_only=True)
class NegativeBinomialConfig(LikelihoodConfig):
    """Counts, with a learned dispersion for each feature."""


@frozen(kw_only=True)
class ZeroInflatedNegativeBinomialConfig(LikelihoodConfig):
    """Counts with more zeros than a negative binomial has, and a learned dispersion for each feature."""


normal = spec(NormalConfig, "normal", "Independent normals")
laplace = spec(LaplaceConfig, "laplace", "Independent Laplace distributions")
student_t = spec(StudentTConfig, "student_t", "Independent Student t distributions, for values with outliers")
bernoulli = spec(BernoulliConfig, "bernoulli", "Independent 0/1 values")
categorical = spec(CategoricalConfig, "categorical", "Independent categories")
poisson = spec(PoissonConfig, "poisson", "Counts whose variance is their mean")
negative_binomial = spec(NegativeBinomialConfig, "negative_binomial", "Counts with a learned dispersion")
zero_inflated_negative_binomial = spec(
    ZeroInflatedNegativeBinomialConfig, "zero_inflated_negative_binomial", "Counts with a surplus of zeros"
)
