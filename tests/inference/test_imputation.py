"""Imputed tables: exact predictive intervals of hidden modalities and cells, and what is observed as it is."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import mvcore
from mvcore.data.batch import Batch
from mvcore.data.dataset import MultimodalDataset
from mvcore.distributions.encoded import Encoded
from mvcore.errors import DataError
from mvcore.inference.predictive import rank
from mvcore.metrics.cells import cell_coverage
from mvcore.models.multimodal import MultimodalVAE
from mvcore.posteriors.product import ProductOfExperts
from mvcore.testing.checks import all_patterns
from mvcore.testing.linear import LinearGaussian

K = 4999


class CellEncoder(nn.Module):
    """The exact likelihood of a single latent, given the known cells alone."""

    def __init__(self, world: LinearGaussian, name: str) -> None:
        super().__init__()
        self.W, self.b, self.sigma = world.W[name], world.b[name], world.sigma[name]

    def forward(self, x: Tensor, mask: Tensor | None = None, context: Tensor | None = None) -> Encoded:
        known = torch.ones_like(x) if mask is None else mask.to(x)
        precision = known @ self.W.square() / self.sigma**2
        loc = (known * (x - self.b)) @ self.W / self.sigma**2 / precision
        return Encoded(loc, -0.5 * precision.log())


@pytest.fixture
def line() -> LinearGaussian:
    return LinearGaussian({"a": 4, "b": 3}, 1)


def exact_model(world: LinearGaussian) -> MultimodalVAE:
    return MultimodalVAE(
        world.schema,
        latent_dim=1,
        encoders={m: CellEncoder(world, m) for m in world.schema.names},
        decoders=world.decoders(),
        posterior=ProductOfExperts(world.schema.names, subsets="observed", prior_expert="every"),
    ).double()


def partial(world: LinearGaussian) -> tuple[MultimodalDataset, dict[str, Tensor], dict[str, Tensor]]:
    """Rows of each pattern, some cells of a hidden; the known cells, and all values (0 in absent modalities)."""
    batch = world.sample(6, observed=all_patterns(2).repeat(2, 1)[:6])
    cells = torch.rand(batch.x["a"].shape, generator=torch.Generator().manual_seed(3)) < 0.6
    cells[:, 0] = True
    gaps = {"a": batch.x["a"].where(cells, 0), "b": batch.x["b"]}
    known, values = {}, {}
    for m, each in {"a": cells, "b": torch.ones_like(batch.x["b"], dtype=torch.bool)}.items():
        known[m] = torch.zeros(len(batch), *each.shape[1:], dtype=torch.bool)
        known[m][batch.column(m)] = each
        values[m] = torch.zeros(known[m].shape, dtype=torch.float64)
        values[m][batch.column(m)] = batch.x[m]
    data = MultimodalDataset.from_batch(world.schema, Batch(gaps, batch.observed, {"a": cells}))
    return data, known, values


def conditional(
    world: LinearGaussian, known: dict[str, Tensor], values: dict[str, Tensor]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and standard deviation of each value given the known cells, by conditioning the joint normal of all."""
    W = torch.cat([world.W[m] for m in ("a", "b")])
    b = torch.cat([world.b[m] for m in ("a", "b")])
    noise = torch.cat([torch.full_like(world.b[m], world.sigma[m] ** 2) for m in ("a", "b")])
    cov = W @ W.T + torch.diag(noise)
    have, x = torch.cat([known["a"], known["b"]], 1), torch.cat([values["a"], values["b"]], 1)
    mean, deviation = torch.zeros_like(x), torch.zeros_like(x)
    for i, o in enumerate(have):
        gain = cov[:, o] @ torch.linalg.inv(cov[o][:, o])
        mean[i] = b + gain @ (x[i, o] - b[o])
        deviation[i] = (cov - gain @ cov[o]).diagonal().clamp(min=0).sqrt()
    return {"a": (mean[:, :4], deviation[:, :4]), "b": (mean[:, 4:], deviation[:, 4:])}


def test_intervals_of_hidden_modalities_and_cells_are_those_of_the_exact_conditional(line: LinearGaussian) -> None:
    data, known, values = partial(line)
    out = mvcore.impute(exact_model(line), data, interval=0.9, K=K)
    p = rank(0.9, K) / (K + 1)
    quantile = NormalDist().inv_cdf(p)
    error = (p * (1 - p) / K) ** 0.5 / NormalDist().pdf(quantile)  # of an order statistic, in standard deviations
    for m, (mean, deviation) in conditional(line, known, values).items():
        hidden = ~known[m]
        assert hidden.any()
        for found, limit in [(out[m].low, quantile), (out[m].high, -quantile)]:
            off = ((found - mean) / deviation - limit)[hidden]
            assert off.abs().max() < 5 * error
        assert ((out[m].filled - mean) / deviation)[hidden].abs().max() < 5 / K**0.5


def test_what_is_observed_is_itself_in_every_part(line: LinearGaussian) -> None:
    data, known, values = partial(line)
    out = mvcore.impute(exact_model(line), data, interval=0.5, K=40, samples=3)
    for m, each in out.items():
        assert each.samples is not None
        for found in (each.filled, each.low, each.high, *each.samples):
            assert torch.equal(found[known[m]], values[m][known[m]])


def test_samples_of_all_modalities_have_the_same_latents(line: LinearGaussian) -> None:
    x = {"a": torch.zeros(0, 4, dtype=torch.float64), "b": line.b["b"][None]}
    batch = Batch(x, torch.tensor([[False, True]]), {"b": torch.tensor([[True, False, False]])})
    only_b = MultimodalDataset.from_batch(line.schema, batch)
    out = mvcore.impute(exact_model(line), only_b, K=K, samples=K)
    drawn = torch.cat([out[m].samples[:, 0] for m in ("a", "b")], dim=1)  # type: ignore[index]
    W = torch.cat([line.W["a"], line.W["b"]])
    precision = 1 + line.W["b"][0].square() / line.sigma["b"] ** 2
    exact = (W @ W.T / precision)[:4, 5:]  # covariance of a with the hidden cells of b: through z alone
    found = torch.cov(drawn.double().T)[:4, 5:]
    scale = drawn.double().std(0)
    assert ((found - exact).abs() < 5 * 1.5 * scale[:4, None] * scale[None, 5:] / K**0.5).all()
    assert (exact.abs() > 10 * scale[:4, None] * scale[None, 5:] / K**0.5).any()  # and the test can tell it from 0


def test_blocks_of_rows_change_no_law_and_the_seed_decides(line: LinearGaussian) -> None:
    data, known, _ = partial(line)
    model = exact_model(line)
    state = torch.get_rng_state()
    first = mvcore.impute(model, data, interval=0.9, K=K)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(mvcore.impute(model, data, interval=0.9, K=K)["a"].low, first["a"].low)
    other = mvcore.impute(model, data, interval=0.9, K=K, seed=1, batch_size=2)
    assert not torch.equal(other["a"].low, first["a"].low)
    width = (first["a"].high - first["a"].low)[~known["a"]]
    assert ((other["a"].high - other["a"].low)[~known["a"]] / width - 1).abs().max() < 0.1


def test_the_rank_is_the_greatest_that_holds_the_probability() -> None:
    assert rank(0.9, 19) == 1  # 1 − 2/20
    assert rank(0.9, 18) == 0
    assert rank(0.5, 7) == 2  # 1 − 4/8
    assert rank(0.5, 8) == 2  # 1 − 4/9 ≥ .5 > 1 − 6/9


def tables() -> dict[str, pd.DataFrame]:
    rng = np.random.default_rng(0)
    ids = [f"p{i}" for i in range(40)]
    kinds = {"sex": pd.Categorical(rng.choice(["f", "m"], 40)), "stage": pd.Categorical(rng.choice([1, 2, 3], 40))}
    labs = pd.DataFrame({"crp": rng.normal(size=40), "one": 1000.0}, index=ids)
    return {"labs": labs[:30], "kinds": pd.DataFrame(kinds, index=ids)[10:]}


def test_categories_come_back_by_name_each_column_among_its_own() -> None:
    data = mvcore.from_frames(tables())
    model = mvcore.create("multimodal", data, latent_dim=2)
    model.fit_transforms(data)
    with torch.no_grad():
        for name, value in model.decoders["kinds"].named_parameters():  # the third category, that sex has not, leads
            value.copy_(torch.linspace(-1, 9, len(value)) if name.endswith("bias") and len(value) == 6 else value)
    assert (model.impute(data.batch())["kinds"][:10] == torch.tensor([1, 2])).all()  # sex has no third
    assert (model.generate(50)["kinds"][:, 2, 0] == 0).all()
    torch.testing.assert_close(model.generate(50)["kinds"].sum(1), torch.ones(50, 2))
    out = mvcore.impute(model, data, interval=0.9, K=20, samples=20)["kinds"]
    assert out.low is None
    assert out.filled.index.tolist() == [f"p{i}" for i in range(40)]
    assert out.filled.loc["p10":].astype(str).equals(tables()["kinds"].astype(str))
    assert set(out.filled["sex"].cat.categories) == {"f", "m"}
    assert out.samples is not None
    assert int(out.samples[:, :, 0].max()) == 1
    assert out.probabilities.columns.tolist() == [("sex", "f"), ("sex", "m"), *(("stage", c) for c in (1, 2, 3))]
    assert np.allclose(out.probabilities["sex"].sum(axis=1), 1, atol=1e-5)
    observed = tables()["kinds"]["stage"]
    assert (out.probabilities["stage"].loc["p10":].to_numpy() == pd.get_dummies(observed).to_numpy()).all()
    assert (out.filled["stage"][:10] == out.probabilities["stage"][:10].idxmax(axis=1)).all()


def test_a_constant_column_is_filled_with_its_constant() -> None:
    data = mvcore.from_frames(tables())
    torch.manual_seed(0)
    run = mvcore.fit(mvcore.create("multimodal", data, latent_dim=2), data, epochs=60, lr=1e-2, progress=False)
    filled = mvcore.impute(run.model, data, interval=0.9)["labs"].filled["one"]
    assert not filled.isna().any()
    assert (filled[:30] == 1000).all()
    assert (filled[30:] - 1000).abs().max() < 0.3


def test_new_rows_without_some_modalities_are_filled_in_all() -> None:
    data = mvcore.from_frames(tables())
    model = mvcore.create("multimodal", data, latent_dim=2)
    model.fit_transforms(data)
    new = pd.DataFrame({"one": [1000.0, np.nan], "crp": [np.nan, 0.25]}, index=["q2", "q1"])
    for given in (data.like({"labs": new}), mvcore.from_frames({"labs": new[["crp", "one"]]})):
        out = mvcore.impute(model, given, interval=0.9, K=19)
        assert out["labs"].filled.index.tolist() == ["q2", "q1"]
        assert out["labs"].filled.loc["q1", "crp"] == out["labs"].low.loc["q1", "crp"] == 0.25
        assert out["labs"].low.loc["q2", "crp"] < out["labs"].high.loc["q2", "crp"]
        assert not any(table.isna().any(axis=None) for table in (out["labs"].filled, out["kinds"].filled))


def test_an_embedding_is_a_frame_of_the_posterior_means() -> None:
    data = mvcore.from_frames(tables())
    model = mvcore.create("multimodal", data, latent_dim=3)
    model.fit_transforms(data)
    table = mvcore.embed(model, data, batch_size=7)
    assert table.index.tolist() == [f"p{i}" for i in range(40)]
    torch.testing.assert_close(torch.tensor(table.to_numpy(copy=True)), model.embed(data.batch()))
    bare = MultimodalDataset.from_batch(data.schema, data.batch())
    torch.testing.assert_close(mvcore.embed(model, bare), model.embed(data.batch()))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"interval": 1.0}, "between 0 and 1"),
        ({"interval": 90}, "between 0 and 1"),
        ({"interval": 0.9, "K": 18}, "K must be at least 19 for an interval of 0.9"),
        ({"K": 0}, "K must be at least 1"),
        ({"K": 5, "samples": 6}, "samples must be from 1 to K = 5"),
    ],
)
def test_numbers_out_of_range_are_refused(line: LinearGaussian, settings: dict[str, float], message: str) -> None:
    data, _, _ = partial(line)
    with pytest.raises(DataError, match=message):
        mvcore.impute(exact_model(line), data, **settings)  # type: ignore[arg-type]


def test_exact_intervals_cover_hidden_cells_as_often_as_they_say_and_narrow_ones_less(line: LinearGaussian) -> None:
    n, draws = 1500, 199
    data = MultimodalDataset.from_batch(line.schema, line.sample(n, observed=all_patterns(2).repeat(500, 1)))
    target = 1 - 2 * rank(0.8, draws) / (draws + 1)
    for each in cell_coverage(exact_model(line), data, interval=0.8, share=0.3, K=draws):
        # cells of a row share its latent: at worst all three or four are one
        assert abs(each.coverage - target) < 4.5 * (target * (1 - target) / (each.cells / 2)) ** 0.5
        assert each.cells == pytest.approx(0.3 * 1000 * line.schema[each.modality].size, rel=0.15)
    line.sigma = {m: sigma / 3 for m, sigma in line.sigma.items()}
    assert all(each.coverage < 0.6 for each in cell_coverage(exact_model(line), data, interval=0.8, K=draws))
    with pytest.raises(DataError, match="share must lie between 0 and 1"):
        cell_coverage(exact_model(line), data, share=0.0)
