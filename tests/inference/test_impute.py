"""Imputation and generation: what is observed stays as it is, the rest has the exact conditional mean."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

import mvcore
from mvcore.data.batch import Batch
from mvcore.data.dataset import MultimodalDataset
from mvcore.models.base import Model
from mvcore.models.multimodal import MultimodalVAE
from mvcore.samplers.prior import PriorSampler
from mvcore.testing.checks import all_patterns
from mvcore.testing.linear import LinearGaussian

Compose = Callable[..., MultimodalVAE]


@pytest.fixture
def batch(world: LinearGaussian) -> Batch:
    return world.sample(7, observed=all_patterns(3))


def test_what_is_observed_is_kept_bit_by_bit_and_the_rest_has_the_exact_conditional_mean(
    world: LinearGaussian, batch: Batch, compose: Compose
) -> None:
    K = 20_000
    model = compose(world, experts="likelihood", prior_expert="every")
    filled = model.impute(batch, K=K)
    posterior = world.posterior(batch)
    for m, values in filled.items():
        have = batch.column(m)
        assert torch.equal(values[have], batch.x[m])
        mean = posterior.loc @ world.W[m].T + world.b[m]  # E x_m = W E z + b
        error = (posterior.scale**2 @ (world.W[m] ** 2).T / K).sqrt()
        assert ((values - mean).abs()[~have] < 5 * error[~have]).all()


def test_a_modality_that_the_batch_does_not_have_is_imputed_too(
    world: LinearGaussian, batch: Batch, compose: Compose
) -> None:
    model = compose(world, experts="likelihood", prior_expert="every")
    view = batch.only(["b"])
    filled = model.impute(view, K=20_000)
    posterior = world.posterior(batch, ["b"])
    mean = posterior.loc @ world.W["a"].T + world.b["a"]
    error = (posterior.scale**2 @ (world.W["a"] ** 2).T / 20_000).sqrt()
    assert ((filled["a"] - mean).abs() < 5 * error).all()  # rows without b have the prior's mean


def test_unknown_cells_are_filled_and_known_ones_kept(world: LinearGaussian, compose: Compose) -> None:
    whole = world.sample(6)
    cells = torch.ones(6, 5, dtype=torch.bool)
    cells[1, 2] = cells[4, 0] = cells[4, 3] = False
    x = dict(whole.x) | {"a": whole.x["a"].where(cells, 0)}
    batch = Batch(x, whole.observed, {"a": cells})
    model = compose(world)
    filled = model.impute(batch, K=50)["a"]
    assert torch.equal(filled[cells], whole.x["a"][cells])
    draws = model.encode(batch, 50)  # the same generator, so the same draws
    expected = model.decode(draws.values, "a").mean.mean(0)
    torch.testing.assert_close(filled[~cells], expected[~cells])


def mixed(rows: int = 8) -> tuple[Model, MultimodalDataset]:
    """A model of a table, categories and counts, on partial rows."""
    rng = np.random.default_rng(0)
    data = MultimodalDataset(
        {
            "table": rng.normal(size=(rows, 3)) * 100 + 1000,
            "word": np.concatenate([np.arange(4).repeat(2)[:, None]] * 2, 1)[:rows],
            "count": rng.poisson(5, size=(rows, 2)),
        },
        {"table": np.arange(rows) % 2 == 0, "word": np.arange(rows) % 4 > 0},
        likelihoods={"count": "negative_binomial"},
    )
    model = mvcore.create("multimodal", data, latent_dim=2)
    model.fit_transforms(data)
    return model, data


def test_imputed_values_have_the_units_and_kinds_of_the_data() -> None:
    model, data = mixed()
    batch = data.batch()
    filled = model.impute(batch)
    assert filled["word"].dtype == torch.long
    assert filled["word"].shape == (8, 2)
    assert set(filled["word"].unique().tolist()) <= {0, 1, 2, 3}
    assert (filled["count"] >= 0).all()
    missing = ~batch.column("table")
    # an untrained decoder's output is about 0 on the scale of the transform, so about the mean in data units
    target = model.decoders["table"].target
    assert ((filled["table"][missing] - target.loc).abs() < 3 * target.scale).all()  # type: ignore[union-attr, operator]
    for m, values in filled.items():
        assert torch.equal(values[batch.column(m)], batch.x[m])


def test_generated_observations_have_the_shapes_of_the_data() -> None:
    model, data = mixed()
    free = model.generate(5)
    assert {m: v.shape[0] for m, v in free.items()} == {"table": 5, "word": 5, "count": 5}
    assert free["table"].shape == (5, 3)
    given = model.generate(4, data.batch().only(["table"]))
    assert given["table"].shape == (4, 8, 3)
    assert given["count"].shape == (4, 8, 2)
    sampler = PriorSampler()
    torch.testing.assert_close(model.generate(5, sampler=sampler), free)


def test_generation_conditions_on_what_is_given(world: LinearGaussian, batch: Batch, compose: Compose) -> None:
    n = 20_000
    model = compose(world, experts="likelihood", prior_expert="every")
    view = batch.only(["b"])
    posterior = world.posterior(batch, ["b"])
    found = model.generate(n, view)["a"]
    mean = posterior.loc @ world.W["a"].T + world.b["a"]
    deviation = (posterior.scale**2 @ (world.W["a"] ** 2).T).sqrt()  # of W z given x_b
    assert ((found.mean(0) - mean).abs() < 5 * deviation / math.sqrt(n)).all()
    assert ((found.std(0) / deviation - 1).abs() < 5 / math.sqrt(2 * n)).all()
    free = model.generate(n)["a"]  # and on nothing: z ~ N(0, I)
    spread = (world.W["a"] ** 2).sum(1).sqrt()
    assert ((free.mean(0) - world.b["a"]).abs() < 5 * spread / math.sqrt(n)).all()


def test_a_generator_decides_the_draws(world: LinearGaussian, batch: Batch, compose: Compose) -> None:
    model = compose(world)

    def seeded(seed: int) -> torch.Tensor:
        return model.encode(batch, 2, generator=torch.Generator().manual_seed(seed))["shared"]

    assert torch.equal(seeded(1), seeded(1))
    assert not torch.equal(seeded(1), seeded(2))
    with pytest.raises(mvcore.errors.DataError, match="give one of the two"):  # type: ignore[attr-defined]
        model.generate(1, batch, sampler=PriorSampler())
