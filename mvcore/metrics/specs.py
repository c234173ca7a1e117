"""Configs and specs of the core's metrics; ``docs/evaluation.md`` defines each."""

from __future__ import annotations

from typing import Any, Literal

from attrs import Attribute, field, frozen

from mvcore.options import Estimator
from mvcore.plugins.spec import ComponentSpec, MetricConfig
from mvcore.validators import all_positive, positive

Average = Literal["micro", "macro"]
Clusters = Literal["k_means", "resource"]


def _levels(instance: Any, attribute: Attribute[Any], value: Any) -> None:
    if not value or not all(0 < level < 1 for level in value):
        raise ValueError(f"{attribute.name} must hold levels between 0 and 1, got {value!r}")


def _positive_or_none(instance: Any, attribute: Attribute[Any], value: Any) -> None:
    if value is not None:
        positive(instance, attribute, value)


@frozen(kw_only=True)
class LogLikelihoodConfig(MetricConfig):
    """Mean log p of what a row has, in nats; also by the number of modalities that it has."""

    K: int | None = field(default=None, validator=_positive_or_none)
    """Importance samples of each row; None: the evaluation's."""


@frozen(kw_only=True)
class ConditionalLogLikelihoodConfig(MetricConfig):
    """Mean log p of one modality given the others that the row has, in nats."""

    K: int | None = field(default=None, validator=_positive_or_none)
    """Draws of each row; None: the evaluation's."""
    estimators: tuple[Estimator, ...] = ("predictive", "ratio", "reweighted")
    """Which estimates are made: ``predictive``, ``ratio``, ``reweighted``."""


@frozen(kw_only=True)
class LinearProbeConfig(MetricConfig):
    """Accuracy of a logistic regression from embeddings to labels, by the number of modalities embedded from."""

    sizes: tuple[int, ...] = field(default=(), validator=all_positive)
    """Sizes of the subsets to embed from; all, where empty."""


@frozen(kw_only=True)
class ImputationConfig(MetricConfig):
    """R², or accuracy, of a hidden modality predicted from the others, beside simple predictors."""

    K: int | None = field(default=None, validator=_positive_or_none)
    """Draws whose predictions are averaged; None: the evaluation's."""
    baselines: bool = True
    """Whether the mean, ridge regression and nearest neighbours are scored beside the model."""
    min_rows: int = field(default=10, validator=positive)
    """Rows that a pattern needs for a score of its own."""


@frozen(kw_only=True)
class IntervalCoverageConfig(MetricConfig):
    """Share of hidden values inside the central predictive interval."""

    levels: tuple[float, ...] = field(default=(0.5, 0.8, 0.9, 0.95), validator=_levels)
    """Nominal levels."""
    draws: int = field(default=399, validator=positive)
    """Draws of each value; a level is exact where ``(draws + 1) (1 - level) / 2`` is a whole number."""


@frozen(kw_only=True)
class ReconstructionConfig(MetricConfig):
    """Error of what a row has, predicted from all that it has: MSE, and PSNR and SSIM of images."""

    K: int | None = field(default=None, validator=_positive_or_none)
    """Draws whose predictions are averaged; None: the evaluation's."""
    data_range: float | None = field(default=None, validator=_positive_or_none)
    """Largest minus smallest possible pixel; None: that of the test images."""


@frozen(kw_only=True)
class CoherenceConfig(MetricConfig):
    """Share of generated observations that a given classifier puts into the right class."""

    average: Average = "micro"
    """``micro``: every generated observation counts alike; ``macro``: every pair of subset and target does."""
    draws: int = field(default=1000, validator=positive)
    """Draws of the prior, or of the fitted sampler, for the unconditional coherence."""
    sizes: tuple[int, ...] = field(default=(), validator=all_positive)
    """Sizes of the subsets to condition on; all, where empty."""


@frozen(kw_only=True)
class ClusteringConfig(MetricConfig):
    """Accuracy, NMI and ARI of clusters against labels."""

    clusters: Clusters = "k_means"
    """``k_means``: k-means of the embeddings, as many clusters as labels; ``resource``: the resource ``clusters``."""


log_likelihood = ComponentSpec(
    api=1,
    config=LogLikelihoodConfig,
    build="mvcore.metrics.log_likelihood:build",
    summary="Mean log-likelihood in nats",
)
conditional_log_likelihood = ComponentSpec(
    api=1,
    config=ConditionalLogLikelihoodConfig,
    build="mvcore.metrics.conditional_log_likelihood:build",
    figure="mvcore.metrics.conditional_log_likelihood:draw",
    summary="Log-likelihood of one modality given the others",
)
linear_probe = ComponentSpec(
    api=1,
    config=LinearProbeConfig,
    build="mvcore.metrics.linear_probe:build",
    figure="mvcore.metrics.linear_probe:draw",
    summary="Accuracy of a linear classifier on embeddings",
)
imputation = ComponentSpec(
    api=1,
    config=ImputationConfig,
    build="mvcore.metrics.imputation:build",
    figure="mvcore.metrics.imputation:draw",
    summary="Score of hidden modalities, beside simple predictors",
)
interval_coverage = ComponentSpec(
    api=1,
    config=IntervalCoverageConfig,
    build="mvcore.metrics.interval_coverage:build",
    figure="mvcore.metrics.interval_coverage:draw",
    summary="Coverage of predictive intervals",
)
reconstruction = ComponentSpec(
    api=1,
    config=ReconstructionConfig,
    build="mvcore.metrics.reconstruction:build",
    summary="MSE, PSNR and SSIM of reconstructions",
)
coherence = ComponentSpec(
    api=1,
    config=CoherenceConfig,
    build="mvcore.metrics.coherence:build",
    figure="mvcore.metrics.coherence:draw",
    summary="Coherence of generated modalities for a given classifier",
)
clustering = ComponentSpec(
    api=1,
    config=ClusteringConfig,
    build="mvcore.metrics.clustering:build",
    summary="Clusters of embeddings against labels",
)
