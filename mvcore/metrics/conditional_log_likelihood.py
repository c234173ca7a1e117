"""The log-likelihood of one modality given the others, by each estimator, in data units and nats."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, final

import torch

from mvcore.errors import NotApplicableError
from mvcore.evaluation.evaluation import Evaluation, has_and_another
from mvcore.evaluation.figures import axes_of, grouped
from mvcore.inference.estimators import conditional_of_encodings
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
        for name in e.names:
            rows = has_and_another(e.test, name)
            if not bool(rows.any()):
                e.skipped[f"conditional_log_likelihood/{name}"] = "No test row has it and another modality."
                continue
            others = [m for m in e.names if m != name]
            for estimator in self.estimators:
                score = partial(
                    conditional_of_encodings, e.model, target=[name], given=others, estimator=estimator, K=K
                )
                parts = e.map(lambda view, _, score=score: score(view))  # type: ignore[misc]
                values[f"conditional_log_likelihood/{name}/{estimator}"] = float(torch.cat(parts).cpu()[rows].mean())
        if not values:
            raise NotApplicableError("No test row has two modalities, one to score and one to condition on.")
        return values


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
