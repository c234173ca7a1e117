"""Observations of every shape are modelled on a scale of their own by default; densities stay in data units."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import mvcore
from mvcore.data.dataset import MultimodalDataset
from mvcore.data.schema import Schema
from mvcore.data.transforms import Affine
from mvcore.errors import ConfigError
from mvcore.plugins.registry import Registry

MODELS = [entry.name for entry in Registry.installed().entries("model")]


def rows(shape: tuple[int, ...], offset: float, spread: float, n: int = 120, seed: int = 0) -> MultimodalDataset:
    """Two views of two latents, some rows without one of them; the second around ``offset``."""
    rng = np.random.default_rng(seed)
    z, size = rng.normal(size=(n, 2)), math.prod(shape)
    weights = np.random.default_rng(9)
    a = z @ weights.normal(size=(2, 5)) + 0.1 * rng.normal(size=(n, 5))
    b = np.tanh(z @ weights.normal(size=(2, size)) + 0.1 * rng.normal(size=(n, size)))
    masks = {"a": np.arange(n) % 10 != 0, "b": np.arange(n) % 10 != 1}
    return MultimodalDataset({"a": a, "b": (offset + spread * b).reshape(n, *shape)}, masks)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shape", [(2, 6), (1, 8, 8)])
def test_every_model_trains_on_large_numbers_of_any_shape(name: str, shape: tuple[int, ...]) -> None:
    data = rows(shape, 127, 120, n=40)
    torch.manual_seed(0)
    main = {"main": "b"} if name == "cvae" else {}  # what it generates
    run = mvcore.fit(mvcore.create(name, data, latent_dim=2, **main), data, epochs=2, batch_size=16, progress=False)
    assert math.isfinite(run.history[-1]["loss"])
    assert all(v.isfinite().all() for v in run.model.state_dict().values())
    filled = run.model.impute(data.batch(), K=2)["b"]
    assert bool(((filled > -400) & (filled < 700)).all())  # 127 and four to five deviations of 120


@pytest.mark.parametrize("shape", [(2, 6), (2, 2, 3), (1, 8, 8)])
def test_a_reshaped_table_is_imputed_as_well_as_the_table(shape: tuple[int, ...]) -> None:
    scores = []
    for each in ((math.prod(shape),), shape):
        train, test = rows(each, 2000, 10), rows(each, 2000, 10, n=60, seed=1)
        torch.manual_seed(0)
        run = mvcore.fit(mvcore.create("multimodal", train, latent_dim=4), train, epochs=40, progress=False)
        hidden = {"use": "imputation", "K": 8, "baselines": False}
        scores.append(mvcore.evaluate(run.model, test, train=train, metrics=[hidden]).values["imputation/b"])
    assert scores[0] > 0.8
    assert scores[1] > scores[0] - 0.1


@pytest.mark.parametrize("shape", [(2, 6), (4, 3), (2, 2, 3), (3, 8, 8)])
@pytest.mark.parametrize("likelihood", ["normal", "laplace", "student_t"])
def test_a_density_in_data_units_changes_by_the_jacobian_of_the_units_alone(shape: Any, likelihood: str) -> None:
    """Of y = c x + d, log p(y) = log p(x) − D log c for any weights: a scale that is fitted takes the rest away."""
    factor, shift = 50.0, 300.0
    found = []
    for c, d in ((1.0, 0.0), (factor, shift)):
        data = rows(shape, 3 * c + d, 5 * c)
        torch.manual_seed(0)
        model = mvcore.create("multimodal", data, latent_dim=2, modalities={"b": {"likelihood": likelihood}})
        model.fit_transforms(data)
        found.append(model.log_likelihood(data.batch().only(["b"]), 20)[data.observed[:, 1]])
    size = math.prod(shape)
    torch.testing.assert_close(found[1], found[0] - size * math.log(factor), rtol=2e-3, atol=0.05)


@pytest.mark.parametrize(
    ("low", "high", "kept"), [(0, 1, True), (-1, 1, True), (0, 255, False), (-1024, 3071, False), (0, 1.5, False)]
)
def test_images_between_minus_1_and_1_stay_as_they_are_others_are_scaled(low: float, high: float, kept: bool) -> None:
    x = low + (high - low) * np.random.default_rng(0).random((20, 3, 8, 8))
    x[0, 0, 0, 0], x[0, 0, 0, 1] = low, high
    data = MultimodalDataset({"image": x})
    model = mvcore.create("mopoe" if "mopoe" in MODELS else "multimodal", data, latent_dim=2)
    model.fit_transforms(data)
    seen = model.inputs["image"](data.batch().x["image"])
    if kept:
        assert torch.equal(seen, data.batch().x["image"])
    else:
        torch.testing.assert_close(seen.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
        torch.testing.assert_close(seen.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-4, rtol=0)


def test_each_channel_has_a_scale_of_its_own_over_its_known_cells_alone() -> None:
    x = torch.stack([torch.arange(8.0).view(2, 4), 1000 * torch.arange(8.0).view(2, 4)], dim=1)
    known = torch.ones_like(x, dtype=torch.bool)
    known[0, 0, 1:] = False  # the first channel knows 0 and 4, 5, 6, 7: mean 4.4, variance (126 − 5 · 4.4²) / 5 = 5.84
    affine = Affine((2, 4), "channels")
    affine.fit(lambda: [(x[:1].where(known[:1], 0), known[:1]), (x[1:], None)])
    torch.testing.assert_close(affine.loc, torch.tensor([[4.4], [3500.0]]).expand(2, 4))
    torch.testing.assert_close(affine.scale, torch.tensor([[5.84**0.5], [1000 * 5.25**0.5]]).expand(2, 4))


def test_what_has_a_default_scale() -> None:
    shapes = {"table": (5,), "signal": (2, 32), "image": (3, 9, 9), "volume": (1, 8, 8, 8), "stack": (5, 8, 8)}
    model: Any = mvcore.create("multimodal", Schema.from_shapes({**shapes, "bits": (1, 8, 8)}, {"bits": "bernoulli"}))
    found = {m: (parts.input, parts.target) for m, parts in model.config.modalities.items()}
    assert found == {
        "table": ("standardize", "standardize"),
        "signal": ("channels", "channels"),
        "image": ("image", "image"),
        "volume": ("channels", "channels"),
        "stack": ("channels", "channels"),
        "bits": ("none", "none"),
    }


def test_images_and_signals_may_be_given_another_likelihood() -> None:
    schema = Schema.from_shapes({"image": (1, 8, 8), "signal": (2, 9)})
    parts = {"image": {"likelihood": "bernoulli"}, "signal": {"likelihood": "poisson"}}
    model: Any = mvcore.create("multimodal", schema, modalities=parts)
    assert (model.decoders["image"].target, model.decoders["signal"].target) == (None, None)
    with pytest.raises(ConfigError, match="target must be 'none'"):
        mvcore.create("multimodal", schema, modalities={"signal": {"likelihood": "poisson", "target": "minmax"}})
