"""CVAE on real data, and the example of the README."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import mvcore

VIEWS = ("fou", "fac", "kar", "zer", "mor")


def trained(**fields: object) -> tuple[mvcore.Model, mvcore.MultimodalDataset, mvcore.MultimodalDataset]:
    """A CVAE of the pixels after 30 epochs on rows with 30 % of the views missing; the rows, and complete test rows."""
    train, test = mvcore.dataset("mfeat").split(0.8, seed=0)
    train = mvcore.mcar(train, 0.3, seed=1)
    torch.manual_seed(0)
    model = mvcore.create("cvae", train, main="pix", **fields)
    return mvcore.fit(model, train, epochs=30, progress=False).model, train, test


@pytest.mark.slow
def test_mfeat_with_a_third_of_the_views_missing() -> None:
    """The main view is predicted better than by its mean from all others, and from each alone; no other is scored."""
    model, train, test = trained()
    values = mvcore.evaluate(model, test, train=train, metrics=[{"use": "imputation", "baselines": False}]).values
    assert {name.split("/")[1] for name in values} == {"pix"}
    assert values["imputation/pix"] > 0.65
    truth = test.batch().x["pix"]
    total = (truth - train.batch().x["pix"].mean(0)).square().sum()
    for other in VIEWS:
        predicted = model.impute(test.batch().only([other]))["pix"]
        assert (truth - predicted).square().sum() < 0.95 * total, other


@pytest.mark.slow
def test_the_latent_tells_the_digit_where_the_decoder_is_told_no_condition() -> None:
    model, train, test = trained(condition_dim=0)
    metrics = [{"use": "imputation", "baselines": False}, {"use": "linear_probe", "sizes": [6]}]
    values = mvcore.evaluate(model, test, train=train, metrics=metrics).values
    assert values["linear_probe/6_inputs"] >= 0.95
    assert values["imputation/pix"] > 0.6


def test_example_of_the_readme_runs(run_examples: Callable[[Path], dict[str, Any]]) -> None:
    names = run_examples(Path(__file__).parents[1] / "README.md")
    assert set(names["filled"]) == {"pix"}
    assert names["filled"]["pix"].shape == (400, 240)
    assert names["drawn"]["pix"].shape == (8, 400, 240)
    assert names["score"].isfinite().all()
