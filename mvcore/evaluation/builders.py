"""Builders of the core's metrics; ``mvcore.components.metrics`` names them."""

from __future__ import annotations

from mvcore.components import metrics as c
from mvcore.evaluation.clustering import Clustering
from mvcore.evaluation.coherence import Coherence
from mvcore.evaluation.imputation import ImputationMetric
from mvcore.evaluation.interval_coverage import IntervalCoverage
from mvcore.evaluation.likelihood import ConditionalLogLikelihood, LogLikelihood
from mvcore.evaluation.probe import LinearProbe
from mvcore.evaluation.reconstruction import Reconstruction


def log_likelihood(config: c.LogLikelihoodConfig) -> LogLikelihood:
    """Builds the log-likelihood."""
    return LogLikelihood(K=config.K)


def conditional_log_likelihood(config: c.ConditionalLogLikelihoodConfig) -> ConditionalLogLikelihood:
    """Builds the conditional log-likelihood."""
    return ConditionalLogLikelihood(K=config.K, kinds=config.estimators)


def linear_probe(config: c.LinearProbeConfig) -> LinearProbe:
    """Builds the linear probe."""
    return LinearProbe(sizes=config.sizes)


def imputation(config: c.ImputationConfig) -> ImputationMetric:
    """Builds the scores of hidden modalities."""
    return ImputationMetric(K=config.K, baselines=config.baselines, min_rows=config.min_rows)


def interval_coverage(config: c.IntervalCoverageConfig) -> IntervalCoverage:
    """Builds the coverage of predictive intervals."""
    return IntervalCoverage(levels=config.levels, draws=config.draws)


def reconstruction(config: c.ReconstructionConfig) -> Reconstruction:
    """Builds the errors of reconstructions."""
    return Reconstruction(K=config.K, data_range=config.data_range)


def coherence(config: c.CoherenceConfig) -> Coherence:
    """Builds the coherence."""
    return Coherence(average=config.average, draws=config.draws, sizes=config.sizes)


def clustering(config: c.ClusteringConfig) -> Clustering:
    """Builds the scores of clusters."""
    return Clustering(clusters=config.clusters)
