"""Whether clusters of the latents are the labels' classes."""

from __future__ import annotations

from typing import final

import numpy as np
import torch

from mvcore.evaluation.evaluation import Evaluation
from mvcore.evaluation.labels import classes_of, codes
from mvcore.extras import require
from mvcore.metrics.baselines import Array
from mvcore.metrics.specs import ClusteringConfig, Clusters
from mvcore.validators import check_choice


@final
class Clustering:
    """``clustering/accuracy``, ``clustering/nmi`` and ``clustering/ari`` of test rows embedded from all that they have.

    Args:
        clusters: ``k_means``: k-means of the embeddings, with as many clusters as there are labels; ``resource``: the
            resource ``clusters``, a callable from the encodings of B rows to the cluster of each ``(B,)``, such as the
            most probable component of a mixture posterior.
    """

    def __init__(self, *, clusters: Clusters = "k_means") -> None:
        check_choice("clusters", clusters, Clusters)
        self.clusters = clusters

    def __call__(self, e: Evaluation) -> dict[str, float]:
        """Scores over all rows that have a label; needs labels."""
        have = e.labelled()
        labels = codes(e.labels()[have], classes_of(e.labels()))
        scores = require("sklearn.metrics", "eval", "The metric 'clustering'")
        found = self._k_means(e, labels, have) if self.clusters == "k_means" else self._given(e)[have]
        return {
            "clustering/accuracy": matched_accuracy(labels, found),
            "clustering/nmi": float(scores.normalized_mutual_info_score(labels, found)),
            "clustering/ari": float(scores.adjusted_rand_score(labels, found)),
        }

    def _k_means(self, e: Evaluation, labels: Array, have: Array) -> Array:
        cluster, k = require("sklearn.cluster", "eval", "The metric 'clustering'"), len(np.unique(labels))
        points = e.embed()[have].astype(np.float64)
        found: Array = cluster.KMeans(k, n_init=10, random_state=e.seed).fit_predict(points)
        return found

    def _given(self, e: Evaluation) -> Array:
        assign = e.resource("clusters", "a callable from encodings to the cluster of each row")
        parts = e.map(lambda view, _: torch.as_tensor(assign(view)).cpu())
        return torch.cat(parts).numpy()


def matched_accuracy(labels: Array, clusters: Array) -> float:
    """Share of rows ``(n,)`` whose cluster stands for their label, under the best one-to-one match of the two."""
    optimize = require("scipy.optimize", "eval", "The match of clusters and labels")
    _, rows = np.unique(labels, return_inverse=True)
    _, columns = np.unique(clusters, return_inverse=True)
    table = np.zeros((rows.max() + 1, columns.max() + 1))
    np.add.at(table, (rows, columns), 1)
    return float(table[optimize.linear_sum_assignment(-table)].sum() / len(rows))


def build(config: ClusteringConfig) -> Clustering:
    """Builds the scores of clusters."""
    return Clustering(clusters=config.clusters)
