"""Scores of a hidden modality: what they are by definition, and what the simple predictors must reach."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mvcore
from mvcore.distributions.encoded import Encoded
from mvcore.evaluation.evaluation import Evaluation
from mvcore.metrics.imputation import Hidden, Imputation


class First(nn.Module):
    """Encodes an observation as its first value, all but exactly."""

    def forward(self, x: Tensor, mask: Tensor | None = None, context: Tensor | None = None) -> Encoded:
        first = x.flatten(1)[:, :1]
        return Encoded(first, torch.full_like(first, -20.0))


class Table(nn.Module):
    """Decodes the number of a row to the outputs of that row."""

    def __init__(self, outputs: Tensor) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return self.outputs[z[:, 0].round().long()]


def oracle(data: mvcore.MultimodalDataset, outputs: Tensor) -> mvcore.MultimodalVAE:
    """Predicts y from a table, by the number of the row in x; were y not hidden, it would find another row."""
    parts = {f"modalities.{m}.{part}": "none" for m in ("x", "y") for part in ("input", "target")}
    small = {f"modalities.{m}.{part}.hidden": [4] for m in ("x", "y") for part in ("encoder", "decoder")}
    fields = {"latent_dim": 1, "posterior.prior_expert": "none", **parts, **small}
    model = mvcore.create("multimodal", data, **fields)
    model.encoders.update({"x": First(), "y": First()})
    model.decoders["y"].network = Table(outputs)
    return model


def scores(
    outputs: Tensor, train: mvcore.MultimodalDataset, test: mvcore.MultimodalDataset, *, baselines: bool = False
) -> dict[str, float]:
    return Imputation(K=2, baselines=baselines)(Evaluation(oracle(train, outputs), test, train, batch_size=7))


def data(y: Any, rows: slice, masks: dict[str, Any] | None = None, **options: Any) -> mvcore.MultimodalDataset:
    """Rows whose modality x holds the number of the row, and linear features of y."""
    n = len(y)
    features = np.concatenate([np.arange(n)[:, None], np.tile(np.asarray(y, float).reshape(n, -1), 3)], 1)
    every = mvcore.MultimodalDataset({"x": features, "y": y}, masks, **options)
    return every.select(np.arange(n)[rows])


@pytest.fixture
def y() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).normal(size=(120, 2)) * [1.0, 50.0]


def test_the_truth_scores_one_and_the_training_mean_zero(y: np.ndarray[Any, Any]) -> None:
    train, test = data(y, slice(0, 80)), data(y, slice(80, 120))
    truth = torch.as_tensor(y).float()[:, None]
    mean = truth[:80].mean(0).expand(120, 1, 2)
    assert scores(truth, train, test)["imputation/y"] == pytest.approx(1)
    assert scores(mean, train, test)["imputation/y"] == pytest.approx(0, abs=1e-6)


def test_r2_scales_each_feature_by_its_range_in_training() -> None:
    y = np.array([[0.0, 0.0], [2.0, 100.0], [1.0, 50.0], [2.0, 50.0]])
    train, test = data(y, slice(0, 3)), data(y, slice(3, 4))
    predicted = torch.tensor([[0.0, 0.0]] * 3 + [[1.0, 60.0]])[:, None]
    # the mean is (1, 50), ranges 2 and 100: 1 − ((1/2)² + (10/100)²) / (1/2)²
    assert scores(predicted, train, test)["imputation/y"] == pytest.approx(1 - 0.26 / 0.25)


def test_ridge_recovers_a_linear_map_and_neighbours_come_close(y: np.ndarray[Any, Any]) -> None:
    train, test = data(y, slice(0, 80)), data(y, slice(80, 120))
    values = scores(torch.as_tensor(y).float()[:, None], train, test, baselines=True)
    task = Hidden(train, test, "y")
    assert (task.name, task.kind, len(task.test), values["imputation/y/mean"]) == ("y", "R²", 40, 0.0)
    assert values["imputation/y/ridge"] > 0.99
    assert 0.5 < values["imputation/y/neighbours"] < 1


def test_accuracy_of_zeros_and_ones_is_the_share_of_right_values() -> None:
    y = np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
    train, test = (data(y, rows, likelihoods={"y": "bernoulli"}) for rows in (slice(0, 2), slice(2, 4)))
    predicted = torch.tensor([[0.5, 0.5]] * 2 + [[0.9, 0.2], [0.8, 0.4]])
    values = scores(predicted.logit()[:, None], train, test)
    assert values["imputation/y"] == pytest.approx(3 / 4)
    assert Hidden(train, test, "y").kind == "accuracy"


def test_accuracy_of_categories_is_the_share_of_right_ones() -> None:
    y = np.array([[0, 1], [2, 1], [1, 1], [2, 0]])
    train, test = data(y, slice(0, 2)), data(y, slice(2, 4))
    predicted = torch.tensor([[0, 0]] * 2 + [[1, 2], [2, 0]])
    outputs = 9.0 * torch.nn.functional.one_hot(predicted).movedim(-1, 1)
    assert scores(outputs, train, test)["imputation/y"] == pytest.approx(3 / 4)


def test_rows_without_the_modality_or_without_another_are_not_scored(y: np.ndarray[Any, Any]) -> None:
    has_x, has_y = np.ones(120, bool), np.ones(120, bool)
    has_x[80:90], has_y[90:95] = False, False
    masks = {"x": has_x, "y": has_y}
    train, test = data(y, slice(0, 80), masks), data(y, slice(80, 120), masks)
    truth = torch.as_tensor(y).float()[:, None]
    truth[80:95] = torch.nan  # not to be read
    assert scores(truth, train, test)["imputation/y"] == pytest.approx(1)
    assert len(Hidden(train, test, "y").test) == 25
