"""How well a linear classifier reads the labels off the embedding."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from mvcore.data.dataset import MultimodalDataset
from mvcore.errors import DataError
from mvcore.evaluation.evaluation import Evaluation, sizes
from mvcore.extras import require
from mvcore.models.base import Model


def embed(
    model: Model, data: MultimodalDataset, given: Iterable[str] | None = None, *, batch_size: int = 512
) -> Tensor:
    """Posterior means of the shared latent ``(n, D)``, from all that each row has or from some modalities."""
    names = data.schema.names if given is None else tuple(given)
    return torch.cat([model.embed(batch.only(names)) for batch in data.batches(batch_size)])


def linear_probe(
    model: Model, train: MultimodalDataset, test: MultimodalDataset, given: Iterable[str] | None = None
) -> float:
    """Accuracy of a logistic regression from embeddings to labels, trained on ``train``, measured on ``test``.

    Args:
        model: A trained model.
        train: Labelled rows, as partial as they are.
        test: Labelled rows; those with none of the given modalities are left out.
        given: Modalities that the test rows are embedded from; all by default.
    """
    if train.labels is None or test.labels is None:
        raise DataError("A linear probe needs labels; give labels=… to the data sets.")
    names = test.schema.names if given is None else tuple(given)
    have = test.batch().only(names).observed.any(1).numpy()
    probe = _fitted(embed(model, train).cpu().numpy(), train.labels)
    return float(probe.score(embed(model, test, names).cpu().numpy()[have], test.labels[have]))


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
        labels, learn = e.labels(), e.training_labels()
        probe = _fitted(e.embed(part="train"), learn)
        values = {"linear_probe/observed": float((probe.predict(e.embed()) == labels).mean())}
        for size in sizes(self.sizes, len(e.names)):
            right = {
                given: (probe.predict(e.embed(given)[rows]) == labels[rows])
                for given in e.subsets(size)
                if (rows := e.rows(given).numpy()).any()
            }
            if right:
                values[f"linear_probe/{size}_inputs"] = float(np.concatenate(list(right.values())).mean())
            if size == 1:
                values |= {f"linear_probe/given/{given[0]}": float(hits.mean()) for given, hits in right.items()}
        return values


def _fitted(x: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> Any:
    linear, pipeline, preprocessing = (
        require(f"sklearn.{part}", "eval", "The linear probe") for part in ("linear_model", "pipeline", "preprocessing")
    )
    steps = preprocessing.StandardScaler(), linear.LogisticRegression(max_iter=2000)
    return pipeline.make_pipeline(*steps).fit(x, labels)
