"""Integers become categories only where they can hardly be anything else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import mvcore
from mvcore.data.dataset import MultimodalDataset
from mvcore.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (10, 28, 28), dtype=np.uint8)
COUNTS = np.random.default_rng(0).poisson(3, (10, 200))


@pytest.mark.parametrize(
    "x",
    [
        PIXELS,
        PIXELS[:, None] % 2,  # an image of 0 and 1
        np.array([[0], [3000]]),
        np.array([[31, 0], [32, 0]]),
        COUNTS,
        np.zeros((3, 257), dtype=np.int8),
        torch.full((3, 8, 8), 4, dtype=torch.int32),  # 64 values, five categories each
    ],
)
def test_integers_that_may_be_pixels_counts_or_numbers_are_asked_about(x: Any) -> None:
    with pytest.raises(DataError) as caught:
        MultimodalDataset({"x": x})
    for choice in ("'x'", "normal", "poisson", "negative_binomial", "categorical", "bernoulli"):
        assert choice in str(caught.value)
    items = [{"x": torch.as_tensor(row)} for row in x]
    with pytest.raises(DataError, match="may be numbers, counts or categories"):
        mvcore.from_torch_dataset(items)  # type: ignore[arg-type]
    assert MultimodalDataset({"x": x}, likelihoods={"x": "normal"}).batch().x["x"].dtype == torch.float32
    assert mvcore.from_torch_dataset(items, likelihoods={"x": "poisson"}).schema["x"].likelihood == "poisson"  # type: ignore[arg-type]


def test_labels_and_small_codes_are_categories_whatever_stands_in_rows_that_are_not_observed() -> None:
    for x in (
        np.array([[0], [9]]),
        np.array([[0, 31], [5, 2]]),
        np.full((2, 8, 8), 3),
        torch.tensor([[1], [0]], dtype=torch.uint8),
    ):
        spec = MultimodalDataset({"x": x}).schema["x"]
        assert (spec.likelihood, spec.categories) == ("categorical", int(x.max()) + 1)
    hidden = MultimodalDataset(
        {"a": np.zeros((3, 1)), "x": np.array([[0], [99999], [1]])}, {"x": np.array([True, False, True])}
    )
    assert hidden.schema["x"].categories == 2
