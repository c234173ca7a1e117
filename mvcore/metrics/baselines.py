"""Simple predictors of a hidden modality, and data as the rows of numbers that they work on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from mvcore.data.rows import Rows, dense, known_cells
from mvcore.extras import require

Array = np.ndarray[Any, Any]


def encoded(data: Rows, name: str) -> tuple[Array, Array, Array]:
    """One modality as rows of numbers, categories one-hot.

    Returns:
        The values ``(n, F)``, 0 where unknown; which rows have the modality ``(n,)``; which values are known
        ``(n, F)``.
    """
    (values, have), known = dense(data, name), known_cells(data, name)
    categories = data.schema[name].categories
    if categories is not None:
        known = known.unsqueeze(1).expand(-1, categories, *known.shape[1:])
    return one_hot(data, name, values), have.numpy(), known.flatten(1).numpy()


def one_hot(data: Rows, name: str, values: torch.Tensor) -> Array:
    """Values of a modality ``(n, *shape)`` as rows of numbers ``(n, F)``; of categories ``(n, P, …)`` one-hot."""
    if (categories := data.schema[name].categories) is not None:
        values = torch.nn.functional.one_hot(values, categories).movedim(-1, 1)
    array: Array = values.flatten(1).double().numpy()
    return array


def known_mean(values: Array, known: Array) -> Array:
    """Mean of the known values of each feature ``(F,)``, 0 where none is known."""
    mean: Array = np.where(known, values, 0).sum(0) / np.maximum(1, known.sum(0))
    return mean


def design(train: Rows, test: Rows, names: Iterable[str]) -> tuple[Array, Array]:
    """Features of some modalities side by side, standardised, 0 (the mean) where a value is not known."""
    sides: tuple[list[Array], list[Array]] = ([], [])
    for name in names:
        values, _, known = encoded(train, name)
        loc = known_mean(values, known)
        scale = np.sqrt(known_mean(np.square(values - loc), known))
        for side, data in zip(sides, (train, test), strict=True):
            values, _, known = encoded(data, name)
            side.append(np.where(known, (values - loc) / np.where(scale > 0, scale, 1), 0))
    return np.concatenate(sides[0], 1), np.concatenate(sides[1], 1)


def ridge(x: Array, y: Array, x_test: Array) -> Array:
    """Predictions of ridge regression, its penalty chosen by leaving one row out."""
    linear = require("sklearn.linear_model", "eval", "The comparison with ridge regression")
    predicted: Array = linear.RidgeCV(alphas=np.logspace(0, 4, 9)).fit(x, y).predict(x_test)
    return predicted.reshape(len(x_test), -1)


def neighbours(x: Array, y: Array, x_test: Array) -> Array:
    """Means of the 10 nearest training rows."""
    near = require("sklearn.neighbors", "eval", "The comparison with nearest neighbours")
    predicted: Array = near.KNeighborsRegressor(min(10, len(x))).fit(x, y).predict(x_test)
    return predicted.reshape(len(x_test), -1)
