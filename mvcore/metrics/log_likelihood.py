"""The log-likelihood of test rows, estimated by importance sampling, in data units and nats."""

from __future__ import annotations

from typing import final

import torch

from mvcore.data.rows import column
from mvcore.errors import NotApplicableError
from mvcore.evaluation.evaluation import Evaluation
from mvcore.metrics.specs import LogLikelihoodConfig


@final
class LogLikelihood:
    """``log_likelihood``, and ``log_likelihood/<n>_modalities`` of the rows that have as many.

    Args:
        K: Importance samples of each row; the evaluation's by default.
    """

    def __init__(self, *, K: int | None = None) -> None:
        self.K = K

    def __call__(self, e: Evaluation) -> dict[str, float]:
        """Means over the rows that have something that the model generates, in nats."""
        K = self.K or e.K
        rows = torch.cat(e.log_likelihoods(K)).cpu()
        counts = e.test.observed.sum(1)
        scored = torch.stack([column(e.test, m) for m in e.targets]).any(0)
        if not bool(scored.any()):
            raise NotApplicableError(f"No test row has what the model generates: {', '.join(e.targets)}.")
        rows, counts = rows[scored], counts[scored]
        values = {"log_likelihood": float(rows.mean())}
        for count in counts.unique().tolist():
            values[f"log_likelihood/{count}_modalities"] = float(rows[counts == count].mean())
        return values


def build(config: LogLikelihoodConfig) -> LogLikelihood:
    """Builds the log-likelihood."""
    return LogLikelihood(K=config.K)
