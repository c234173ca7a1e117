"""Unknown cells inside a modality: a closed form, and every likelihood in every model, on partial rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal

import mvcore
from mvcore.data.batch import Batch
from mvcore.data.dataset import MultimodalDataset
from mvcore.models.multimodal import MultimodalVAE
from mvcore.nn.mlp import MLPEncoder
from mvcore.plugins.registry import Registry
from mvcore.testing.checks import all_patterns
from mvcore.testing.linear import LinearGaussian

#: Models of every build; with the core alone the first is all there is.
MODELS = [m for m in ("multimodal", "mopoe", "mmvaeplus", "jnf", "nexus") if Registry.installed().matching("model", m)]
LIKELIHOODS = [
    "normal",
    "laplace",
    "student_t",
    "bernoulli",
    "categorical",
    "poisson",
    "negative_binomial",
    "zero_inflated_negative_binomial",
]


def test_the_likelihood_of_a_linear_row_is_that_of_its_known_cells(world: LinearGaussian) -> None:
    plain = world.sample(7, observed=all_patterns(3))
    cells = {m: torch.rand(x.shape) < 0.6 for m, x in plain.x.items()}
    spoilt = {m: x.where(cells[m], torch.nan) for m, x in plain.x.items()}
    batch = Batch(spoilt, plain.observed, cells)
    torch.manual_seed(3)
    model = MultimodalVAE(
        world.schema,
        latent_dim=2,
        encoders={m.name: MLPEncoder(m.shape, 2, hidden=()).double() for m in world.schema},
        decoders=world.decoders(),
    ).double()
    with torch.no_grad():  # draws from the prior, whose weights are bounded: an estimate with an honest error
        for m in model.schema.names:
            model.encoders[m].head.linear.weight.zero_()
            model.encoders[m].head.linear.bias.copy_(torch.tensor([0.0, 0.0, 9.0, 9.0]))
    for row in range(7):
        W, b, noise, x = [], [], [], []
        for m in plain.names:
            one = batch.select(torch.tensor([row]))
            if len(one.x[m]):
                known = one.cells[m][0]
                W.append(world.W[m][known])
                b.append(world.b[m][known])
                noise.append(torch.full((int(known.sum()),), world.sigma[m] ** 2, dtype=torch.float64))
                x.append(one.x[m][0][known])
        mean, covariance = torch.cat(b), torch.cat(W) @ torch.cat(W).T + torch.diag(torch.cat(noise))
        expected = MultivariateNormal(mean, covariance).log_prob(torch.cat(x)) if len(mean) else torch.zeros(())
        many = batch.select(torch.full((20,), row))
        estimates = model.log_likelihood(many, 10_000)
        error = estimates.std() / 20**0.5
        assert (estimates.mean() - expected).abs() < 5 * error + 1e-3, row


def values(likelihood: str, n: int) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(1)
    if likelihood == "categorical":
        return rng.integers(0, 3, (n, 4))
    if likelihood == "bernoulli":
        return rng.random((n, 4)) < 0.5
    counts = likelihood in ("poisson", "negative_binomial", "zero_inflated_negative_binomial")
    return rng.poisson(3, (n, 4)).astype(np.float32) if counts else rng.normal(size=(n, 4)).astype(np.float32)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("name", MODELS)
def test_unknown_cells_change_nothing_and_are_imputed(name: str, likelihood: str) -> None:
    n = 8
    x, other = values(likelihood, n), np.random.default_rng(2).normal(size=(n, 3)).astype(np.float32)
    known = np.random.default_rng(3).random(x.shape) < 0.7
    known[1] = False
    have = {"x": np.arange(n) % 4 != 0, "other": np.arange(n) % 4 != 2}
    spoilt = x.copy()
    spoilt[~known] = 1 if x.dtype.kind in "ib" else np.nan
    part = {"encoder": {"use": "mlp", "hidden": (6,)}, "decoder": {"use": "mlp", "hidden": (6,)}, "input": "none"}
    results = []
    for filled in (np.where(known, x, 0).astype(x.dtype), spoilt):
        arrays = {"x": filled, "other": other}
        data = MultimodalDataset(arrays, have, cells={"x": known}, likelihoods={"x": likelihood})
        torch.manual_seed(0)
        model = mvcore.create(name, data, modalities={"x": part, "other": part}, latent_dim=2)
        model.fit_transforms(data)
        batch = data.batch()
        loss = model(batch).loss
        loss.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        assert loss.isfinite()
        assert all(g.isfinite().all() for g in gradients)
        results.append([loss.detach(), *gradients, model.log_likelihood(batch, 3), *model.impute(batch, K=3).values()])
    for one, same in zip(*results, strict=True):
        assert torch.equal(one, same)
    imputed = model.impute(batch, K=3)["x"]
    kept = torch.from_numpy(known & have["x"][:, None])
    assert torch.equal(imputed[kept], torch.from_numpy(x).to(imputed.dtype)[kept])
    assert imputed.isfinite().all()


def test_a_model_in_float64_takes_categories_and_float32_tables() -> None:
    rng = np.random.default_rng(0)
    masks = {"x": np.arange(9) % 3 != 0, "k": np.arange(9) % 3 != 1}
    rows = mvcore.MultimodalDataset({"x": rng.normal(size=(9, 2)), "k": rng.integers(0, 3, (9, 2))}, masks)
    for target in ("none", "standardize"):
        parts = {"x": {"input": target, "target": target}}
        model = mvcore.create("multimodal", rows, latent_dim=2, modalities=parts)
        model.fit_transforms(rows)
        single = model.embed(rows.batch())
        double = model.double().embed(rows.batch())
        assert double.dtype == torch.float64
        torch.testing.assert_close(double.float(), single, rtol=1e-4, atol=1e-5)
        assert model.impute(rows.batch(), K=2)["k"].dtype == torch.long
