"""Log-likelihoods of a data set, estimated by importance sampling, in data units and nats."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Literal, final

import torch
from torch import Tensor

from mvcore.data.align import aligned
from mvcore.data.dataset import MultimodalDataset
from mvcore.errors import NotApplicableError
from mvcore.evaluation.evaluation import Evaluation, has_and_another
from mvcore.inference import estimators
from mvcore.metrics.specs import ConditionalLogLikelihoodConfig, LogLikelihoodConfig
from mvcore.models.base import Model


def log_likelihood(
    model: Model, data: MultimodalDataset, K: int = 1000, *, batch_size: int = 64, seed: int = 0
) -> Tensor:
    """Log p of what each row has, ``(n,)``; see ``Model.log_likelihood``."""
    generator = torch.Generator().manual_seed(seed)
    return torch.cat(
        [model.log_likelihood(b, K, generator=generator) for b in aligned(data, model.schema).batches(batch_size)]
    )


def conditional_log_likelihood(
    model: Model,
    data: MultimodalDataset,
    target: Iterable[str],
    given: Iterable[str] | None = None,
    estimator: Literal["predictive", "ratio", "reweighted"] = "predictive",
    K: int = 1000,
    *,
    batch_size: int = 64,
    seed: int = 0,
) -> Tensor:
    """Log p(target | given) of each row, ``(n,)``, NaN without a target; see ``Model.conditional_log_likelihood``."""
    generator = torch.Generator().manual_seed(seed)
    target, given = list(target), None if given is None else list(given)
    parts = [
        model.conditional_log_likelihood(b, target, given, estimator, K, generator=generator)
        for b in aligned(data, model.schema).batches(batch_size)
    ]
    return torch.cat(parts)


@final
class LogLikelihood:
    """``log_likelihood``, and ``log_likelihood/<n>_modalities`` of the rows that have as many.

    Args:
        K: Importance samples of each row; the evaluation's by default.
    """

    def __init__(self, *, K: int | None = None) -> None:
        self.K = K

    def __call__(self, e: Evaluation) -> dict[str, float]:
        """Means over rows, in nats."""
        K = self.K or e.K
        rows = torch.cat(e.map(lambda view, batch: estimators.log_likelihood(e.model, batch, view, K))).cpu()
        counts = e.test.observed.sum(1)
        values = {"log_likelihood": float(rows.mean())}
        for count in counts.unique().tolist():
            values[f"log_likelihood/{count}_modalities"] = float(rows[counts == count].mean())
        return values


@final
class ConditionalLogLikelihood:
    """``conditional_log_likelihood/<target>/<estimator>``: of one modality given the others that the row has.

    Args:
        K: Draws of each row; the evaluation's by default.
        kinds: The estimators; see ``Model.conditional_log_likelihood``.
    """

    def __init__(
        self,
        *,
        K: int | None = None,
        kinds: Sequence[Literal["predictive", "ratio", "reweighted"]] = ("predictive", "ratio", "reweighted"),
    ) -> None:
        self.K, self.kinds = K, tuple(kinds)

    def __call__(self, e: Evaluation) -> dict[str, float]:
        """Means in nats over the rows that have the target and at least one other modality."""
        K, values = self.K or e.K, {}
        for name in e.names:
            rows = has_and_another(e.test.batch(), name)
            if not bool(rows.any()):
                e.skipped[f"conditional_log_likelihood/{name}"] = "No test row has it and another modality."
                continue
            others = [m for m in e.names if m != name]
            for kind in self.kinds:
                score = partial(
                    estimators.conditional_of_encodings, e.model, target=[name], given=others, estimator=kind, K=K
                )
                parts = e.map(lambda view, _, score=score: score(view))  # type: ignore[misc]
                values[f"conditional_log_likelihood/{name}/{kind}"] = float(torch.cat(parts).cpu()[rows].mean())
        if not values:
            raise NotApplicableError("No test row has two modalities, one to score and one to condition on.")
        return values


def build(config: LogLikelihoodConfig) -> LogLikelihood:
    """Builds the log-likelihood."""
    return LogLikelihood(K=config.K)


def build_conditional(config: ConditionalLogLikelihoodConfig) -> ConditionalLogLikelihood:
    """Builds the conditional log-likelihood."""
    return ConditionalLogLikelihood(K=config.K, kinds=config.estimators)
