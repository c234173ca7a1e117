"""How well a linear classifier reads the labels off the embedding."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from mvcore.data.dataset import MultimodalDataset
from mvcore.errors import DataError, NotApplicableError
from mvcore.evaluation.evaluation import Evaluation, matched, sizes
from mvcore.evaluation.labels import classes_of, codes, has_label
from mvcore.models.base import Model


def embed(
    model: Model, data: MultimodalDataset, given: Iterable[str] | None = None, *, batch_size: int = 512
) -> Tensor:
    """Posterior means of the shared latent ``(n, D)``, from all that each row has or from some modalities."""
    data = matched(model, data)
    names = data.schema.names if given is None else tuple(given)
    return torch.cat([model.embed(batch.only(names)) for batch in data.batches(batch_size)])


def linear_probe(
    model: Model, train: MultimodalDataset, test: MultimodalDataset, given: Iterable[str] | None = None
) -> float:
    """Accuracy of a logistic regression from embeddings to labels, trained on ``train``, measured on ``test``.

    Args:
        model: A trained model.
        train: Labelled rows, as partial as they are; those without a label (None, NaN) are left out.
        test: Labelled rows; those without a label, or with none of the given modalities, are left out.
        given: Modalities that the test rows are embedded from; all by default.
    """
    train, test = matched(model, train), matched(model, test)
    if train.labels is None or test.labels is None:
        raise DataError("A linear probe needs labels; give labels=… to the data sets.")
    names = test.schema.names if given is None else tuple(given)
    have = test.batch().only(names).observed.any(1).numpy()
    learn, have = has_label(train.labels), have & has_label(test.labels)
    classes = classes_of(train.labels[learn])
    probe = _fitted(embed(model, train).cpu().numpy()[learn], codes(train.labels[learn], classes))
    right = probe.predict(embed(model, test, names).cpu().numpy()[have]) == codes(test.labels[have], classes)
    return float(right.mean())


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


def _fitted(x: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(np.unique(labels)) < 2:
        raise NotApplicableError("A linear probe needs training rows of two labels at least; all have the same.")
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(x, labels)
