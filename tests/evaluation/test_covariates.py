"""Metrics tell networks the covariates and size factors of the rows in question, also where some rows are left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mvcore
from mvcore.data.dataset import MultimodalDataset

N = 30


class OfContext(nn.Module):
    """A decoder network that answers with the covariate alone, in every feature."""

    def forward(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        assert context is not None
        return context[:, :1, None].expand(len(z), 1, 2) + 0 * z[:, :1, None]


@pytest.fixture
def data() -> MultimodalDataset:
    """Counts and values that are functions of the covariate and the size factor; every third row lacks the counts."""
    c = np.linspace(-1.5, 1.5, N)
    factors = np.arange(1, N + 1) / 10
    standard = (c - c.mean()) / c.std()
    return MultimodalDataset(
        {"value": np.stack([standard, standard], 1), "count": np.round(100 * np.stack([factors, factors], 1))},
        {"count": np.arange(N) % 3 > 0},
        likelihoods={"count": "poisson"},
        context={"c": c},
        size_factors={"count": factors},
        labels=np.arange(N) % 2,
    )


@pytest.fixture
def model(data: MultimodalDataset) -> mvcore.MultimodalVAE:
    """Predicts each value by the row's covariate exactly, and each count by 100 times the row's size factor."""
    torch.manual_seed(0)
    small = {m: {"encoder": {"hidden": [4]}, "input": "none", "target": "none"} for m in ("value", "count")}
    model = mvcore.create("multimodal", data, latent_dim=2, modalities=small)
    model.fit_transforms(data)
    model.decoders["value"].network = OfContext()
    model.decoders["count"].network = Constant(float(np.log(100)))
    return model


class Constant(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return z.new_full((len(z), 1, 2), self.value)


def test_predictions_follow_the_covariates_and_size_factors_of_their_rows(
    model: mvcore.MultimodalVAE, data: MultimodalDataset
) -> None:
    chosen = ["reconstruction", "imputation", "interval_coverage", "log_likelihood", "conditional_log_likelihood"]
    values = mvcore.evaluate(model, data, train=data, metrics=chosen, K=20, batch_size=7).values
    assert values["reconstruction/value/mse"] == pytest.approx(0, abs=1e-8)
    assert values["reconstruction/count/mse"] == pytest.approx(0, abs=1e-4)
    assert values["imputation/value"] == pytest.approx(1, abs=1e-6)
    assert values["imputation/count"] == pytest.approx(1, abs=1e-6)
    assert np.isfinite(list(values.values())).all()


def test_what_draws_from_the_prior_is_left_out_with_the_reason(
    model: mvcore.MultimodalVAE, data: MultimodalDataset
) -> None:
    first = lambda x: (x[:, 0] > x[:, 0].median()).long()  # noqa: E731
    report = mvcore.evaluate(
        model, data, metrics=["coherence"], resources={"classifiers": {"value": first, "count": first}}
    )
    assert "covariates" in report.skipped["coherence/unconditional"]
    assert "coherence/1_inputs" in report.values
