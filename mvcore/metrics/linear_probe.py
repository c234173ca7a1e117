"""How well a linear classifier reads the labels off the embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import numpy as np

from mvcore.errors import NotApplicableError
from mvcore.evaluation.evaluation import Evaluation, sizes
from mvcore.evaluation.figures import bars_by_inputs
from mvcore.evaluation.labels import classes_of, codes
from mvcore.extras import require
from mvcore.metrics.baselines import Array
from mvcore.metrics.specs import LinearProbeConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mvcore.evaluation.report import Report


@final
class LinearProbe:
    """Accuracy of a logistic regression that is trained on the embeddings of the training rows.

    ``linear_probe/observed`` embeds each test row from all that it has; ``linear_probe/<n>_inputs`` from every subset
    of n modalities, over the rows that have it, each pair of row and subset counting alike;
    ``linear_probe/given/<m>`` from one modality. The training rows are embedded from all that they have.

    Args:
        sizes: Sizes of the subsets; all, where empty.
    """

    def __init__(self, *, sizes: tuple[int, ...] = ()) -> None:
        self.sizes = sizes

    def __call__(self, e: Evaluation) -> dict[str, float]:
        """Accuracies; needs labelled training and test rows."""
        have, known = e.labelled(), e.labelled("train")
        classes = classes_of(e.training_labels()[known])
        labels = codes(e.labels(), classes)
        probe = _fitted(e.embed(part="train")[known], codes(e.training_labels()[known], classes))
        values = {"linear_probe/observed": float((probe.predict(e.embed()[have]) == labels[have]).mean())}
        for size in sizes(self.sizes, len(e.names)):
            right = {
                given: (probe.predict(e.embed(given)[rows]) == labels[rows])
                for given in e.subsets(size)
                if (rows := e.rows(given).numpy() & have).any()
            }
            if right:
                values[f"linear_probe/{size}_inputs"] = float(np.concatenate(list(right.values())).mean())
            if size == 1:
                values |= {f"linear_probe/given/{given[0]}": float(hits.mean()) for given, hits in right.items()}
        return values


def _fitted(x: Array, labels: Array) -> Any:
    linear, pipeline, preprocessing = (
        require(f"sklearn.{part}", "eval", "The linear probe") for part in ("linear_model", "pipeline", "preprocessing")
    )
    if len(np.unique(labels)) < 2:
        raise NotApplicableError("A linear probe needs training rows of two labels at least; all have the same.")
    steps = preprocessing.StandardScaler(), linear.LogisticRegression(max_iter=2000)
    return pipeline.make_pipeline(*steps).fit(x, labels)


def build(config: LinearProbeConfig) -> LinearProbe:
    """Builds the linear probe."""
    return LinearProbe(sizes=config.sizes)


def draw(report: Report) -> Figure | None:
    """The accuracy by the number of modalities that the test rows are embedded from."""
    return bars_by_inputs(report.under("linear_probe"), "accuracy of the linear probe")
