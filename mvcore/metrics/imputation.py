"""How well a hidden modality is predicted from the others, beside simple predictors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from torch import Tensor

from mvcore.data.batch import Batch
from mvcore.data.rows import Rows, Selected, column
from mvcore.errors import NotApplicableError
from mvcore.evaluation.evaluation import Evaluation, has_and_another
from mvcore.evaluation.figures import axes_of
from mvcore.inference.encodings import Encodings
from mvcore.inference.estimators import predictive_mean
from mvcore.metrics import baselines
from mvcore.metrics.baselines import Array
from mvcore.metrics.specs import ImputationConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mvcore.evaluation.report import Report

LOWEST = -0.1  #: Scores below are drawn as this: how bad a prediction is beyond useless would hide the others.
#: How the bars of the model and of the simple predictors look, by the end of a score's name.
BARS = {"": ("model", "C0"), "/ridge": ("ridge", "0.55"), "/neighbours": ("neighbours", "0.75"),
        "/mean": ("mean", "0.92")}  # fmt: skip


@final
class Imputation:
    r"""``imputation/<modality>``, its baselines, and the score for each pattern of the other modalities.

    The score is the accuracy of categories and 0/1 values, and R² of real values and counts, taken over all known
    values of the modality, each feature scaled by its range in training,
    :math:`1 - \sum (x - \hat x)^2 / \sum (x - \bar x)^2` with the training mean :math:`\bar x`. The baselines are the
    mean, or most frequent value, of the training rows; ridge regression from the other modalities, their gaps filled
    with means; and the mean of the 10 nearest training rows, distances taken over the other modalities alike.

    Args:
        K: Draws of the posterior whose predictions are averaged; the evaluation's by default.
        baselines: Whether simple predictors are scored too.
        min_rows: Rows that a pattern needs for a score of its own.
    """

    def __init__(self, *, K: int | None = None, baselines: bool = True, min_rows: int = 10) -> None:
        self.K, self.baselines, self.min_rows = K, baselines, min_rows

    def __call__(self, e: Evaluation) -> dict[str, float]:
        """Hides one modality at a time; needs the training rows."""
        train, values = e.training(), {}
        for name in e.targets:
            if not (bool(has_and_another(e.test, name).any()) and bool(column(train, name).any())):
                e.skipped[f"imputation/{name}"] = "No test row has it and another modality, or no training row has it."
                continue
            task = Hidden(train, e.test, name)
            predicted = task.rows_of(self._predict(e, name))
            values[f"imputation/{name}"] = task.score(predicted)
            for others, rows in task.patterns().items():
                if len(rows) >= self.min_rows:
                    values[f"imputation/{name}/given/{'+'.join(others)}"] = task.score(predicted, rows)
            if self.baselines:
                values |= {f"imputation/{name}/{key}": value for key, value in task.baselines().items()}
        if not values:
            raise NotApplicableError("No test row has a modality that can be hidden and another to predict it from.")
        return values

    def _predict(self, e: Evaluation, name: str) -> Tensor:
        def mean(view: Encodings, batch: Batch) -> Tensor:
            latents = e.model.posterior(view).draw(self.K or e.K)
            rows = has_and_another(batch, name).nonzero().squeeze(1).to(batch.device)
            return predictive_mean(e.model, latents.take(rows), name, batch, rows)

        return torch.cat(e.map(mean, [m for m in e.names if m != name])).cpu()


@final
class Hidden:
    """The task of predicting one hidden modality: the rows that can be scored, and what is true of them."""

    def __init__(self, train: Rows, test: Rows, name: str) -> None:
        self.train, self.name = train, name
        self.others = [m for m in test.schema.names if m != name]
        self.test = Selected(test, has_and_another(test, name).nonzero().squeeze(1))
        self.truth, _, self.known = baselines.encoded(self.test, name)
        learn, self.has_target, known = baselines.encoded(train, name)
        learn, known = learn[self.has_target], known[self.has_target]
        self.mean = baselines.known_mean(learn, known)
        self.learn = np.where(known, learn, self.mean)
        spread = self.learn.max(0) - self.learn.min(0)
        self.scale = np.where(spread > 0, spread, 1)
        discrete = test.schema[name].likelihood in ("bernoulli", "categorical")
        self.kind = "accuracy" if discrete else "R²"

    def rows_of(self, values: Tensor) -> Array:
        """Predicted values ``(n, *shape)`` as rows of numbers, categories one-hot."""
        return baselines.one_hot(self.test, self.name, values)

    def score(self, predicted: Array, rows: Any = slice(None)) -> float:
        """R² or accuracy of predictions ``(n, F)`` of all rows, over some of the rows."""
        truth, predicted, known = self.truth[rows], predicted[rows], self.known[rows]
        if self.kind == "R²":
            errors = (np.square((truth - p) / self.scale)[known].sum() for p in (predicted, self.mean))
            left, total = errors
            return float(1 - left / total) if total > 0 else float("nan")
        categories = self.test.schema[self.name].categories
        if categories is None:
            return float(((predicted > 0.5) == (truth > 0.5))[known].mean())
        shape = (len(truth), categories, -1)
        right = truth.reshape(shape).argmax(1) == predicted.reshape(shape).argmax(1)
        return float(right[known.reshape(shape)[:, 0]].mean())

    def baselines(self) -> dict[str, float]:
        """Scores of the mean, of ridge regression and of the nearest neighbours."""
        x_train, x_test = baselines.design(self.train, self.test, self.others)
        x_train = x_train[self.has_target]
        return {
            "mean": self.score(np.broadcast_to(self.mean, self.truth.shape)),
            "ridge": self.score(baselines.ridge(x_train, self.learn, x_test)),
            "neighbours": self.score(baselines.neighbours(x_train, self.learn, x_test)),
        }

    def patterns(self) -> dict[tuple[str, ...], Array]:
        """The rows with each set of the other modalities, as indices."""
        observed = torch.stack([column(self.test, m) for m in self.others], dim=1)
        found = {}
        for pattern in observed.unique(dim=0):
            names = tuple(m for m, has in zip(self.others, pattern.tolist(), strict=True) if has)
            found[names] = (observed == pattern).all(1).nonzero().squeeze(1).numpy()
        return found


def build(config: ImputationConfig) -> Imputation:
    """Builds the scores of hidden modalities."""
    return Imputation(K=config.K, baselines=config.baselines, min_rows=config.min_rows)


def draw(report: Report) -> Figure | None:
    """Scores of the model and of the simple predictors for each hidden modality."""
    found = report.under("imputation")
    names = [name for name in found if not any(name.startswith(f"{other}/") for other in found)]
    if not names:
        return None
    bars = {end: look for end, look in BARS.items() if any(name + end in found for name in names)}
    figure, axes = axes_of(1, 1, size=(2 + 0.9 * len(names), 3.6))
    for i, (end, (label, color)) in enumerate(bars.items()):
        x = np.arange(len(names)) + 0.8 * ((i + 0.5) / len(bars) - 0.5)
        heights = [max(LOWEST, found.get(name + end, np.nan)) for name in names]
        axes.bar(x, heights, 0.8 / len(bars), label=label, color=color, edgecolor="0.4")
    axes.axhline(0, color="0.4", lw=0.8)
    axes.set(xticks=range(len(names)), xticklabels=names, ylabel="R² or accuracy", title="One modality hidden")
    axes.tick_params("x", rotation=30 if max(map(len, names)) > 6 else 0)
    figure.legend(loc="outside lower center", ncols=4, fontsize="small")
    return figure
