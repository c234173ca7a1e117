"""Scores of a hidden modality: what they are by definition, and what the simple predictors must reach."""

from typing import Any

import numpy as np
import pytest
import torch

import mvcore
from mvcore.data.batch import Batch
from mvcore.metrics.imputation import imputation, imputation_score


class Oracle:
    """Imputes a modality from a table of its values, found by the first column of another modality."""

    def __init__(self, values: torch.Tensor) -> None:
        self.values = values

    def impute(self, batch: Batch, *, K: int) -> dict[str, torch.Tensor]:
        if "x" not in batch.names:
            return {"x": torch.zeros(len(batch), 1 + 3 * self.values[0].numel())}
        assert batch.names == ("x",)
        return {"y": self.values[batch.x["x"][:, 0].long()]}


def data(y: Any, rows: slice, masks: dict[str, Any] | None = None, **options: Any) -> mvcore.MultimodalDataset:
    """Rows whose modality x holds the number of the row, and five linear features of y."""
    n = len(y)
    features = np.concatenate([np.arange(n)[:, None], np.tile(np.asarray(y, float).reshape(n, -1), 3)], 1)
    every = mvcore.MultimodalDataset({"x": features, "y": y}, masks, **options)
    return every.select(np.arange(n)[rows])


@pytest.fixture
def y() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).normal(size=(120, 2)) * [1.0, 50.0]


def test_the_truth_scores_one_and_the_training_mean_zero(y: np.ndarray[Any, Any]) -> None:
    train, test = data(y, slice(0, 80)), data(y, slice(80, 120))
    truth = torch.as_tensor(y).float()
    mean = truth[:80].mean(0).expand(120, 2)
    assert imputation_score(Oracle(truth), train, test, "y") == pytest.approx(1)  # type: ignore[arg-type]
    assert imputation_score(Oracle(mean), train, test, "y") == pytest.approx(0, abs=1e-6)  # type: ignore[arg-type]


def test_r2_scales_each_feature_by_its_range_in_training() -> None:
    y = np.array([[0.0, 0.0], [2.0, 100.0], [1.0, 50.0], [2.0, 50.0]])
    train, test = data(y, slice(0, 3)), data(y, slice(3, 4))
    predicted = torch.tensor([[0.0, 0.0]] * 3 + [[1.0, 60.0]])
    # the mean is (1, 50), ranges 2 and 100: 1 − ((1/2)² + (10/100)²) / (1/2)²
    assert imputation_score(Oracle(predicted), train, test, "y") == pytest.approx(1 - 0.26 / 0.25)  # type: ignore[arg-type]


def test_ridge_recovers_a_linear_map_and_neighbours_come_close(y: np.ndarray[Any, Any]) -> None:
    train, test = data(y, slice(0, 80)), data(y, slice(80, 120))
    result = imputation(Oracle(torch.as_tensor(y).float()), train, test)[1]  # type: ignore[arg-type]
    assert (result.modality, result.score, result.rows, result.mean) == ("y", "R²", 40, 0.0)
    assert result.ridge > 0.99
    assert 0.5 < result.neighbours < 1


def test_accuracy_of_zeros_and_ones_is_the_share_of_right_values() -> None:
    y = np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
    train, test = (
        data(y, slice(0, 2), likelihoods={"y": "bernoulli"}),
        data(y, slice(2, 4), likelihoods={"y": "bernoulli"}),
    )
    predicted = torch.tensor([[0.0, 0.0]] * 2 + [[0.9, 0.2], [0.8, 0.4]])
    assert imputation_score(Oracle(predicted), train, test, "y") == pytest.approx(3 / 4)  # type: ignore[arg-type]


def test_accuracy_of_categories_is_the_share_of_right_ones() -> None:
    y = np.array([[0, 1], [2, 1], [1, 1], [2, 0]])
    train, test = data(y, slice(0, 2)), data(y, slice(2, 4))
    predicted = torch.tensor([[0, 0]] * 2 + [[1, 2], [2, 0]])
    assert imputation_score(Oracle(predicted), train, test, "y") == pytest.approx(3 / 4)  # type: ignore[arg-type]


def test_rows_without_the_modality_or_without_another_are_not_scored(y: np.ndarray[Any, Any]) -> None:
    has_x, has_y = np.ones(120, bool), np.ones(120, bool)
    has_x[80:90], has_y[90:95] = False, False
    masks = {"x": has_x, "y": has_y}
    train, test = data(y, slice(0, 80), masks), data(y, slice(80, 120), masks)
    truth = torch.as_tensor(y).float()
    truth[80:95] = torch.nan  # not to be read
    result = imputation(Oracle(truth), train, test)[1]  # type: ignore[arg-type]
    assert result.rows == 25
    assert result.model == pytest.approx(1)
