"""The log-likelihood of one modality given the others, by each estimator, in data units and nats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor

from mvcore.data.batch import Batch
from mvcore.errors import NotApplicableError
from mvcore.evaluation.evaluation import Evaluation, has_and_another
from mvcore.evaluation.figures import axes_of, grouped
from mvcore.inference.encodings import Encodings
from mvcore.inference.estimators import conditionals_of_encodings
from mvcore.metrics.specs import ConditionalLogLikelihoodConfig
from mvcore.options import Estimator
from mvcore.validators import check_choice

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mvcore.evaluation.report import Report


@final
class ConditionalLogLikelihood:
    """``conditional_log_likelihood/<target>/<estimator>``: of one modality given the others that the row has.

    Args:
        K: Draws of each row; the evaluation's by default.
        estimators: The estimators; see ``Model.conditional_log_likelihood``.
    """

    def __init__(
        self,
        *,
        K: int | None = None,
        estimators: Sequence[Estimator] = ("predictive", "ratio", "reweighted"),
    ) -> None:
        for estimator in estimators:
            check_choice("estimators", estimator, Estimator)
        self.K, self.estimators = K, tuple(estimators)

    def __call__(self, e: Evaluation) -> dict[str, float]:
        """Means in nats over the rows that have the target and at least one other modality."""
        K, values = self.K or e.K, {}
        for name in e.targets:
            rows = has_and_another(e.test, name)
            if not bool(rows.any()):
                e.skipped[f"conditional_log_likelihood/{name}"] = "No test row has it and another modality."
                continue
            for estimator, each in self._estimates(e, name, K).items():
                values[f"conditional_log_likelihood/{name}/{estimator}"] = float(each[rows].mean())
        if not values:
            raise NotApplicableError("No test row has two modalities, one to score and one to condition on.")
        return values

    def _estimates(self, e: Evaluation, name: str, K: int) -> dict[Estimator, Tensor]:
        """Each estimate for each row ``(n,)``, in the order of the estimators."""
        others = [m for m in e.names if m != name]
        whole = iter(e.log_likelihoods(K)) if "ratio" in self.estimators else None

        def score(view: Encodings, _: Batch) -> dict[Estimator, Tensor]:
            joint = None if whole is None else next(whole)
            return conditionals_of_encodings(e.model, view, [name], others, self.estimators, K, joint)

        parts = e.map(score)
        return {estimator: torch.cat([part[estimator] for part in parts]).cpu() for estimator in self.estimators}


def build(config: ConditionalLogLikelihoodConfig) -> ConditionalLogLikelihood:
    """Builds the conditional log-likelihood."""
    return ConditionalLogLikelihood(K=config.K, estimators=config.estimators)


def draw(report: Report) -> Figure | None:
    """The estimates side by side, one panel for each target."""
    targets = grouped(report.under("conditional_log_likelihood"))
    if not targets:
        return None
    figure, axes = axes_of(1, len(targets), size=(1.2 + 1.5 * len(targets), 3.0), squeeze=False)
    for ax, (name, estimates) in zip(axes[0], targets.items(), strict=True):
        ax.plot(range(len(estimates)), list(estimates.values()), "o", color="C0")
        ax.set(title=name, xticks=range(len(estimates)), xlim=(-0.5, len(estimates) - 0.5))
        ax.set_xticklabels(list(estimates), rotation=45, ha="right")
        ax.tick_params(labelsize="small")
    axes[0, 0].set_ylabel("log p(target | others), nats")
    return figure
