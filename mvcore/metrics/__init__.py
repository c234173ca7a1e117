"""Measures of a trained model."""

from typing import TYPE_CHECKING

from mvcore.faces import face

if TYPE_CHECKING:
    from mvcore.metrics.base import Metric as Metric
    from mvcore.metrics.cells import CellCoverage as CellCoverage, cell_coverage as cell_coverage
    from mvcore.metrics.clustering import Clustering as Clustering, matched_accuracy as matched_accuracy
    from mvcore.metrics.coherence import Coherence as Coherence
    from mvcore.metrics.conditional_log_likelihood import ConditionalLogLikelihood as ConditionalLogLikelihood
    from mvcore.metrics.imputation import Hidden as Hidden, Imputation as Imputation
    from mvcore.metrics.interval_coverage import IntervalCoverage as IntervalCoverage
    from mvcore.metrics.linear_probe import LinearProbe as LinearProbe
    from mvcore.metrics.log_likelihood import LogLikelihood as LogLikelihood
    from mvcore.metrics.reconstruction import Reconstruction as Reconstruction, psnr as psnr
    from mvcore.metrics.similarity import ssim as ssim
    from mvcore.metrics.specs import (
        ClusteringConfig as ClusteringConfig,
        CoherenceConfig as CoherenceConfig,
        ConditionalLogLikelihoodConfig as ConditionalLogLikelihoodConfig,
        ImputationConfig as ImputationConfig,
        IntervalCoverageConfig as IntervalCoverageConfig,
        LinearProbeConfig as LinearProbeConfig,
        LogLikelihoodConfig as LogLikelihoodConfig,
        ReconstructionConfig as ReconstructionConfig,
    )
else:
    __all__, __getattr__, __dir__ = face(
        __name__,
        {
            "base": ("Metric",),
            "cells": ("CellCoverage", "cell_coverage"),
            "clustering": ("Clustering", "matched_accuracy"),
            "coherence": ("Coherence",),
            "conditional_log_likelihood": ("ConditionalLogLikelihood",),
            "imputation": ("Hidden", "Imputation"),
            "interval_coverage": ("IntervalCoverage",),
            "linear_probe": ("LinearProbe",),
            "log_likelihood": ("LogLikelihood",),
            "reconstruction": ("Reconstruction", "psnr"),
            "similarity": ("ssim",),
            "specs": (
                "ClusteringConfig",
                "CoherenceConfig",
                "ConditionalLogLikelihoodConfig",
                "ImputationConfig",
                "IntervalCoverageConfig",
                "LinearProbeConfig",
                "LogLikelihoodConfig",
                "ReconstructionConfig",
            ),
        },
    )
