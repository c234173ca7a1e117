"""How well a hidden modality is predicted from the others, beside simple predictors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, final

import numpy as np
import torch
from attrs import frozen

from mvcore.data.dataset import MultimodalDataset
from mvcore.models.base import Model

Array = np.ndarray[Any, Any]


@final
@frozen(kw_only=True)
class Imputation:
    """The scores of one hidden modality: R² of real values and counts, accuracy of categories and 0/1 values."""

    modality: str
    """The hidden modality."""
    score: str
    """``R²`` or ``accuracy``."""
    rows: int
    """Test rows that have the modality and at least one other."""
    model: float
    """The model's score."""
    mean: float
    """Score of the mean, or the most frequent value, of the training rows; an R² of 0 by definition."""
    ridge: float
    """Score of ridge regression from the other modalities, their gaps filled with means."""
    neighbours: float
    """Score of the mean of the 10 nearest training rows, distances taken over the other modalities alike."""


def imputation(
    model: Model, train: MultimodalDataset, test: MultimodalDataset, *, K: int = 64, batch_size: int = 512
) -> list[Imputation]:
    r"""Hides one modality at a time in the test rows and scores its prediction from what is left.

    R² is taken over all values of the modality, each feature scaled by its range in training,
    :math:`1 - \sum (x - \hat x)^2 / \sum (x - \bar x)^2` with the training mean :math:`\bar x`.

    Args:
        model: A trained model.
        train: Rows that the simple predictors learn from; those the model was trained on.
        test: Rows to predict, complete or partial.
        K: Draws of the posterior whose predictions are averaged.
        batch_size: Rows predicted at once.
    """
    return [_hidden(model, _Hidden(train, test, name), K, batch_size) for name in test.schema.names]


def imputation_score(
    model: Model, train: MultimodalDataset, test: MultimodalDataset, name: str, *, K: int = 64, batch_size: int = 512
) -> float:
    """The model's score alone for one hidden modality; see ``imputation``."""
    return _model_score(model, _Hidden(train, test, name), K, batch_size)


@final
class _Hidden:
    """The task of predicting one hidden modality: the rows that can be scored, and what is true of them."""

    def __init__(self, train: MultimodalDataset, test: MultimodalDataset, name: str) -> None:
        self.train, self.name = train, name
        self.others = [m for m in test.schema.names if m != name]
        have = test.batch().only(self.others).observed.any(1) & test.batch().column(name)
        self.test = test.select(have)
        self.truth = _encoded(self.test, name)[0]
        known, self.learn = _encoded(train, name)
        self.known = known[self.learn]
        self.score, self.kind = _score(test, name, self.known)


def _model_score(model: Model, task: _Hidden, K: int, batch_size: int) -> float:
    views = (batch.without([task.name]) for batch in task.test.batches(batch_size))
    predicted = torch.cat([model.impute(view, K=K)[task.name].cpu() for view in views])
    return task.score(task.truth, _one_hot(task.test, task.name, predicted))


def _hidden(model: Model, task: _Hidden, K: int, batch_size: int) -> Imputation:
    x_train, x_test = _design(task.train, task.test, task.others)
    x_train = x_train[task.learn]
    return Imputation(
        modality=task.name,
        score=task.kind,
        rows=len(task.test),
        model=_model_score(model, task, K, batch_size),
        mean=task.score(task.truth, np.broadcast_to(task.known.mean(0), task.truth.shape)),
        ridge=task.score(task.truth, _ridge(x_train, task.known, x_test)),
        neighbours=task.score(task.truth, _neighbours(x_train, task.known, x_test)),
    )


def _score(data: MultimodalDataset, name: str, known: Array) -> tuple[Callable[[Array, Array], float], str]:
    spread = known.max(0) - known.min(0)
    scale = np.where(spread > 0, spread, 1)
    mean = known.mean(0)

    def r2(truth: Array, predicted: Array) -> float:
        left = np.square((truth - predicted) / scale).sum()
        return float(1 - left / np.square((truth - mean) / scale).sum())

    def accuracy(truth: Array, predicted: Array) -> float:
        if data.schema[name].categories is None:
            return float(((predicted > 0.5) == (truth > 0.5)).mean())
        shape = (len(truth), data.schema[name].categories or 1, -1)
        return float((truth.reshape(shape).argmax(1) == predicted.reshape(shape).argmax(1)).mean())

    discrete = data.schema[name].likelihood in ("bernoulli", "categorical")
    return (accuracy, "accuracy") if discrete else (r2, "R²")


def _encoded(data: MultimodalDataset, name: str) -> tuple[Array, Array]:
    """One modality as rows of numbers, categories one-hot, and the mask of the rows that have it."""
    values, have = data.dense(name)
    return _one_hot(data, name, values), have.numpy()


def _one_hot(data: MultimodalDataset, name: str, values: torch.Tensor) -> Array:
    if (categories := data.schema[name].categories) is not None:
        values = torch.nn.functional.one_hot(values, categories).movedim(-1, 1)
    array: Array = values.flatten(1).double().numpy()
    return array


def _design(train: MultimodalDataset, test: MultimodalDataset, names: Iterable[str]) -> tuple[Array, Array]:
    """Features of some modalities side by side, standardised, 0 (the mean) where a row lacks the modality."""
    sides: tuple[list[Array], list[Array]] = ([], [])
    for name in names:
        values, have = _encoded(train, name)
        loc, scale = values[have].mean(0), values[have].std(0)
        for side, data in zip(sides, (train, test), strict=True):
            values, have = _encoded(data, name)
            side.append(np.where(have[:, None], (values - loc) / np.where(scale > 0, scale, 1), 0))
    return np.concatenate(sides[0], 1), np.concatenate(sides[1], 1)


def _ridge(x: Array, y: Array, x_test: Array) -> Array:
    from sklearn.linear_model import RidgeCV

    predicted: Array = RidgeCV(alphas=np.logspace(0, 4, 9)).fit(x, y).predict(x_test)
    return predicted.reshape(len(x_test), -1)


def _neighbours(x: Array, y: Array, x_test: Array) -> Array:
    from sklearn.neighbors import KNeighborsRegressor

    predicted: Array = KNeighborsRegressor(min(10, len(x))).fit(x, y).predict(x_test)
    return predicted.reshape(len(x_test), -1)
