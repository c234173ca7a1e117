"""DVCCA on real data, and the example of the README."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import mvcore


@pytest.mark.slow
def test_mfeat_with_a_third_of_the_views_missing() -> None:
    """The main view keeps the digits and predicts every other view better than its mean; none predicts the main one."""
    train, test = mvcore.dataset("mfeat").split(0.8, seed=0)
    train = mvcore.mcar(train, 0.3, seed=1)
    torch.manual_seed(0)
    model = mvcore.create("dvcca", train, latent_dim=20, posterior={"main": "pix"})
    mvcore.fit(model, train, epochs=30, progress=False)
    metrics = [{"use": "imputation", "baselines": False, "K": 64}, {"use": "linear_probe", "sizes": [6]}]
    values = mvcore.evaluate(model, test, train=train, metrics=metrics).values
    assert values["linear_probe/6_inputs"] >= 0.95
    assert all(values[f"imputation/{m}"] > 0 for m in test.schema.names if m != "pix")
    assert abs(values["imputation/pix"]) < 0.1  # the prior predicts the mean


def test_example_of_the_readme_runs(run_examples: Callable[[Path], dict[str, Any]]) -> None:
    names = run_examples(Path(__file__).parents[1] / "README.md")
    assert names["filled"].shape == (400, 216)
