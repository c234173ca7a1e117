"""The Gaussian mixture over latents: its moments, on partial rows, and its place in its model's folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import mvcore
from mvcore.data import MultimodalDataset
from mvcore.errors import ConfigError, DataError, NotFittedError
from mvcore.samplers import GaussianMixtureSampler
from mvcore.testing import LinearGaussian, all_patterns, small


def rows(world: LinearGaussian, n: int, dtype: torch.dtype = torch.float64) -> MultimodalDataset:
    batch = world.sample(n, observed=all_patterns(3).repeat(n // 7 + 1, 1)[:n])
    x = {m: values.to(dtype) for m, values in batch.x.items()}
    return MultimodalDataset.from_batch(world.schema, batch.with_values(x, batch.observed, {}))


def test_one_normal_has_the_moments_of_the_posterior_draws(world: LinearGaussian) -> None:
    """Maximum likelihood of one normal: the mean and the covariance of the draws, also of rows without a modality."""
    model, data = small("multimodal", world.schema, private_dim={"a": 1}), rows(world, 210)
    seen: list[torch.Tensor] = []
    sampler = GaussianMixtureSampler(model.latent_shapes, components=1).double()
    flat = sampler._flat
    sampler._flat = lambda model, batch: seen.append(flat(model, batch)) or seen[-1]  # type: ignore[method-assign, func-returns-value]
    sampler.fit(model, data)
    z = torch.cat(seen)
    assert z.shape == (210, 3)  # two shared dimensions, and one of a
    torch.testing.assert_close(sampler.means[0], z.mean(0))
    covariance = torch.cov(z.T, correction=0) + 1e-6 * torch.eye(3)  # scikit-learn's ridge
    torch.testing.assert_close(sampler.factors[0] @ sampler.factors[0].T, covariance.double())


def test_draws_have_the_moments_of_the_mixture() -> None:
    sampler = GaussianMixtureSampler({"shared": (2,), "private/a": (1,)}, components=2)
    sampler.weights.copy_(torch.tensor([0.25, 0.75]))
    sampler.means.copy_(torch.tensor([[4.0, 0.0, 0.0], [0.0, 0.0, 2.0]]))
    sampler.factors.copy_(torch.tensor([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.5]]).expand(2, 3, 3))
    sampler.fitted.fill_(True)
    n = 40_000
    latents = sampler.draw(None, n)  # type: ignore[arg-type]
    assert {name: z.shape for name, z in latents.values.items()} == {"shared": (n, 1, 2), "private/a": (n, 1, 1)}
    z = torch.cat([latents["shared"][:, 0], latents["private/a"][:, 0]], 1)
    # E z = (1, 0, 1.5); within: L Lᵀ = [[4, 2, 0], [2, 2, 0], [0, 0, .25]]; between: 3/16 (4, 0, −2)(4, 0, −2)ᵀ
    expected = torch.tensor([[7.0, 2.0, -1.5], [2.0, 2.0, 0.0], [-1.5, 0.0, 1.0]])
    torch.testing.assert_close(z.mean(0), torch.tensor([1.0, 0.0, 1.5]), rtol=0, atol=6 * (7 / n) ** 0.5)
    torch.testing.assert_close(torch.cov(z.T), expected, rtol=0, atol=6 * 7 * (2 / n) ** 0.5)


def test_the_model_generates_from_it_and_takes_it_along(world: LinearGaussian, tmp_path: Path) -> None:
    model, data = small("multimodal", world.schema).float(), rows(world, 30, torch.float32)
    free = model.generate(4)
    sampler = mvcore.fit_sampler(model, data, {"use": "gaussian_mixture", "components": 2})
    assert model.sampler is sampler
    drawn = model.generate(4)
    assert not any(torch.equal(drawn[m], free[m]) for m in world.schema.names)
    again = mvcore.load(mvcore.save(model, tmp_path / "model"))
    assert all(torch.equal(again.generate(4)[m], drawn[m]) for m in world.schema.names)
    assert mvcore.fit_sampler(again, data, {"use": "gaussian_mixture", "components": 2}).config == sampler.config


def test_what_can_not_be_fitted_or_drawn_says_so(world: LinearGaussian) -> None:
    model = small("multimodal", world.schema)
    with pytest.raises(DataError, match="10 normals needs as many rows; got 7"):
        mvcore.fit_sampler(model, rows(world, 7), "gaussian_mixture")
    assert model.sampler is None
    with pytest.raises(NotFittedError, match="was not fitted"):
        GaussianMixtureSampler({"shared": (2,)}).draw(model, 3)
    with pytest.raises(ConfigError, match="components must be greater than 0"):
        mvcore.fit_sampler(model, rows(world, 7), {"use": "gaussian_mixture", "components": 0})
    assert np.isfinite(model.generate(2)["a"].numpy()).all()
