"""How well a linear classifier reads the labels off the embedding."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from mvcore.data.dataset import MultimodalDataset
from mvcore.errors import DataError
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
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if train.labels is None or test.labels is None:
        raise DataError("A linear probe needs labels; give labels=… to the data sets.")
    names = test.schema.names if given is None else tuple(given)
    have = test.batch().only(names).observed.any(1).numpy()
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    probe.fit(embed(model, train).cpu().numpy(), train.labels)
    return float(probe.score(embed(model, test, names).cpu().numpy()[have], test.labels[have]))
