"""Covariates and size factors: closed forms, independence of rows, views and refusals, on partial rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mvcore
from mvcore.data.batch import Batch
from mvcore.data.context import covariates
from mvcore.data.dataset import MultimodalDataset
from mvcore.data.schema import CovariateSpec, Schema
from mvcore.errors import BrokenPluginError, DataError
from mvcore.likelihoods.base import LikelihoodDecoder
from mvcore.likelihoods.real import NormalLikelihood
from mvcore.models.multimodal import MultimodalVAE
from mvcore.testing.checks import (
    all_patterns,
    check_leaves_state_alone,
    check_neighbours,
    check_submodels,
)
from mvcore.testing.linear import LinearGaussian

COVARIATES = (CovariateSpec(name="age"), CovariateSpec(name="site", categories=3))


class ShiftedEncoder(nn.Module):
    """The exact encoder of a world without covariates, for x less its shift A c."""

    def __init__(self, exact: nn.Module, A: Tensor) -> None:
        super().__init__()
        self.exact, self.A = exact, A

    def forward(self, x: Tensor, mask: Tensor | None = None, context: Tensor | None = None) -> Any:
        assert context is not None
        return self.exact(x - context @ self.A.T)


class ShiftedDecoder(nn.Module):
    def __init__(self, exact: nn.Module, A: Tensor) -> None:
        super().__init__()
        self.exact, self.A = exact, A

    def forward(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        assert context is not None
        out: Tensor = self.exact(z) + (context @ self.A.T)[:, None]
        return out


def rows(size: int) -> dict[str, Tensor]:
    return {"age": 40 + 9 * torch.randn(size, dtype=torch.float64), "site": torch.randint(0, 3, (size,))}


def shifted(world: LinearGaussian, A: dict[str, Tensor]) -> MultimodalVAE:
    """p(x_m | z, c) = N(W_m z + A_m c + b_m, σ_m²) with its exact posterior."""
    encoders, decoders = world.encoders("likelihood"), world.decoders()
    return MultimodalVAE(
        Schema(world.schema.modalities, COVARIATES),
        latent_dim=world.latent_dim,
        encoders={m: ShiftedEncoder(e, A[m]) for m, e in encoders.items()},
        decoders={
            m: LikelihoodDecoder(ShiftedDecoder(d.network, A[m]), d.likelihood)  # type: ignore[arg-type]
            for m, d in decoders.items()
        },
    ).double()


def exact(world: LinearGaussian) -> MultimodalVAE:
    """The world's model, without a context."""
    parts: dict[str, Any] = {"encoders": world.encoders("likelihood"), "decoders": world.decoders()}
    return MultimodalVAE(world.schema, latent_dim=world.latent_dim, **parts).double()


@pytest.fixture
def A(world: LinearGaussian) -> dict[str, Tensor]:
    return {m: torch.randn(len(b), 4, dtype=torch.float64) for m, b in world.b.items()}


def moved(batch: Batch, context: dict[str, Tensor], A: dict[str, Tensor]) -> tuple[Batch, Tensor]:
    """The batch's values with A c added, and c by hand: the age standardised, the site one-hot."""
    age = context["age"]
    c = torch.cat([((age - age.mean()) / age.std(correction=0))[:, None], torch.eye(3).double()[context["site"]]], 1)
    x = {m: v + c[batch.rows(m)] @ A[m].T for m, v in batch.x.items()}
    return Batch(x, batch.observed, context=context), c


def test_likelihoods_of_a_linear_model_are_the_closed_forms_and_move_with_the_context(
    world: LinearGaussian, A: dict[str, Tensor]
) -> None:
    plain = world.sample(14, observed=all_patterns(3).repeat(2, 1))
    batch, _ = moved(plain, rows(14), A)
    model = shifted(world, A)
    model.fit_transforms(batch)
    torch.testing.assert_close(model.log_likelihood(batch, 3), world.log_likelihood(plain))
    torch.testing.assert_close(model.embed(batch), world.posterior(plain).loc)
    both = plain.observed[:, :2].all(1)
    ratio = model.conditional_log_likelihood(batch, ["a"], ["b"], "ratio", K=3)[both]
    expected = (world.log_likelihood(plain, ["a", "b"]) - world.log_likelihood(plain, ["b"]))[both]
    torch.testing.assert_close(ratio, expected)
    other = Batch(batch.x, batch.observed, context={**batch.context, "age": batch.context["age"] + 5})
    assert bool(((model.log_likelihood(other, 3) - world.log_likelihood(plain)).abs() > 1e-3).all())


def test_what_is_imputed_and_generated_moves_with_the_context(world: LinearGaussian, A: dict[str, Tensor]) -> None:
    plain = world.sample(14, observed=all_patterns(3).repeat(2, 1))
    batch, c = moved(plain, rows(14), A)
    model = shifted(world, A)
    model.fit_transforms(batch)
    without = exact(world)
    expected = without.impute(plain, K=5)
    for m, values in model.impute(batch, K=5).items():
        torch.testing.assert_close(values, expected[m] + c @ A[m].T)
    for m, values in model.generate(4, batch.only(["b"])).items():
        torch.testing.assert_close(values, without.generate(4, plain.only(["b"]))[m] + c @ A[m].T)
    nobody = {name: v[:1] for name, v in batch.context.items()}
    several = {name: v[:4] for name, v in batch.context.items()}
    for m, values in without.generate(4).items():
        torch.testing.assert_close(model.generate(4, context=nobody)[m], values + c[:1] @ A[m].T)
        torch.testing.assert_close(model.generate(4, context=several)[m], values + c[:4] @ A[m].T)


def test_networks_that_ignore_the_context_give_what_the_model_without_it_gives(world: LinearGaussian) -> None:
    plain = world.sample(14, observed=all_patterns(3).repeat(2, 1))
    nothing = {m: torch.zeros(len(b), 4, dtype=torch.float64) for m, b in world.b.items()}
    batch = Batch(plain.x, plain.observed, context=rows(14))
    model = shifted(world, nothing)
    model.fit_transforms(batch)
    without = exact(world)
    torch.manual_seed(1)
    loss = model(batch).loss
    torch.manual_seed(1)
    torch.testing.assert_close(loss, without(plain).loss)
    assert torch.equal(model.log_likelihood(batch, 3), without.log_likelihood(plain, 3))


def table(n: int, **more: Any) -> dict[str, Any]:
    """Rows of two modalities, every pattern, with NaN where a row has nothing, and a context."""
    rng = np.random.default_rng(0)
    have = np.resize([[True, True], [True, False], [False, True]], (n, 2))
    a, b = rng.normal(size=(n, 4)), rng.poisson(5, (n, 3)).astype(float)
    a[~have[:, 0]], b[~have[:, 1]] = np.nan, np.nan
    factors = np.where(have[:, 1], rng.uniform(0.5, 2, n), np.nan)
    return {
        "arrays": {"a": a, "b": b},
        "masks": {"a": have[:, 0], "b": have[:, 1]},
        "likelihoods": {"b": "negative_binomial"},
        "context": {"age": rng.normal(50, 9, n), "site": np.arange(n) % 3, "dose": rng.normal(size=(n, 2))},
        "size_factors": {"b": factors},
        **more,
    }


def small(data: MultimodalDataset | Schema, name: str = "multimodal") -> Any:
    part = {"encoder": {"use": "mlp", "hidden": (8,)}, "decoder": {"use": "mlp", "hidden": (8,)}}
    inputs = {"a": {**part, "input": "none", "target": "none"}, "b": {**part, "input": "log1p"}}
    schema = data if isinstance(data, Schema) else data.schema
    return mvcore.create(name, data, latent_dim=2, modalities={m: inputs[m] for m in schema.names})


def test_a_data_set_says_which_covariates_there_are() -> None:
    data = MultimodalDataset(**table(9))
    assert data.schema.context == (
        CovariateSpec(name="age"),
        CovariateSpec(name="site", categories=3),
        CovariateSpec(name="dose", shape=(2,)),
    )
    assert data.schema.context_dim == 1 + 3 + 2
    picked = data.select([5, 1, 2]).hide(np.zeros((3, 2), bool)).batch()
    assert picked.context["site"].tolist() == [2, 1, 2]
    assert picked.only(["a"]).without(["a"]).select(torch.tensor([1])).context["site"].tolist() == [1]
    assert picked.size_factors["b"][1] == 1  # row 1 lacks b
    assert picked.to("cpu").size_factors["b"].tolist() == picked.size_factors["b"].tolist()
    assert not MultimodalDataset({"a": np.zeros((2, 1))}).schema.context


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context": {"age": [1.0, float("nan"), 2.0]}}, "'age' is NaN or infinite in 1 of 3 rows"),
        ({"context": {"age": [1.0, 2.0]}}, r"one entry for each of 3 rows; got float32 of shape \(2,\)"),
        ({"context": {"site": ["x", "y", "z"]}}, "'site' must be numbers; got dtype <U1. Write categories"),
        ({"context": {"site": [0, -1, 1]}}, "'site' must hold categories 0, 1, 2, …; got -1"),
        ({"size_factors": {"c": [1.0, 1.0, 1.0]}}, "size factors for 'c', which is no modality; there are a, b"),
        ({"size_factors": {"b": [1.0, 1.0, 0.0]}}, "must be finite and above 0; 1 of 3 are not"),
        ({"size_factors": {"b": [float("nan"), 1.0, 1.0]}}, "must be finite and above 0; 1 of 3 are not"),
        ({"size_factors": {"b": [[1.0], [1.0], [1.0]]}}, r"must have shape \(3,\); got \(3, 1\)"),
    ],
)
def test_context_that_does_not_fit_is_refused_where_the_data_set_is_made(change: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        MultimodalDataset(**table(3, **change))


def test_rows_that_lack_the_context_of_a_model_are_refused_by_its_name() -> None:
    data = MultimodalDataset(**table(6))
    model = small(data)
    model.fit_transforms(data)
    batch = data.batch()
    bare = Batch(batch.x, batch.observed)
    with pytest.raises(DataError, match="built for the covariate 'age', which these rows do not have; they have none"):
        model.log_likelihood(bare, 2)
    with pytest.raises(DataError, match="the covariate 'age'"):
        model.generate(2)
    unknown = Batch(batch.x, batch.observed, context={**batch.context, "site": torch.full((6,), 3)})
    with pytest.raises(DataError, match="category 3; the model knows 0 to 2"):
        model.check(unknown)
    wide = Batch(batch.x, batch.observed, context={**batch.context, "age": torch.zeros(6, 2)})
    with pytest.raises(DataError, match=r"numbers of shape \(rows, \*\(\)\); got float32 of shape \(6, 2\)"):
        model.embed(wide)
    with pytest.raises(DataError, match="have their own context"):
        model.generate(2, batch, context={"age": [1.0]})


class Deaf(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return z[:, None]


def test_a_network_that_can_not_be_called_with_covariates_is_refused_by_name() -> None:
    schema = Schema.from_shapes({"a": (2,)})
    good = mvcore.create("multimodal", schema, latent_dim=2)
    parts: dict[str, Any] = {"schema": schema, "latent_dim": 2}
    decoders = {"a": LikelihoodDecoder(Deaf(), NormalLikelihood((2,)))}
    with pytest.raises(DataError, match=r"The decoder network of 'a', Deaf, can't be called with \(z, context\)"):
        MultimodalVAE(encoders=good.encoders, decoders=decoders, **parts)
    with pytest.raises(DataError, match=r"The encoder of 'a', Deaf, can't be called with \(x, mask, context\)"):
        MultimodalVAE(encoders={"a": Deaf()}, decoders=good.decoders, **parts)


def test_a_component_whose_builder_takes_other_arguments_is_refused_by_name() -> None:
    def old(config: Any, *, modality: Any, latent_dim: int, private_dim: int) -> nn.Module:
        return nn.Identity()

    with mock.patch("mvcore.nn.mlp.build_encoder", old), pytest.raises(BrokenPluginError) as caught:
        mvcore.create("multimodal", Schema.from_shapes({"a": (2,)}))
    assert "mvcore:mlp" in str(caught.value)
    assert "unexpected keyword argument 'context_dim'" in str(caught.value)


def test_without_covariates_inference_leaves_all_as_it_was() -> None:
    data = MultimodalDataset(**table(9, context=None))
    check_leaves_state_alone(small(data), data.batch())


def test_a_row_has_the_loss_of_a_model_of_its_modalities_and_of_no_neighbour() -> None:
    data = MultimodalDataset(**table(9))
    model = small(data).double()
    batch = data.batch()
    batch = Batch(
        {m: x.double() for m, x in batch.x.items()},
        batch.observed,
        context={n: v.double() if v.is_floating_point() else v for n, v in batch.context.items()},
        size_factors={"b": batch.size_factors["b"].double()},
    )
    model.fit_transforms(batch)
    check_submodels(small, model, batch)
    check_neighbours(model, batch)


def test_size_factors_scale_likelihood_and_imputation_of_counts() -> None:
    factors = {"b": np.array([2.0, 3.0, 0.5, 4.0, np.nan, 1.0])}
    data, plain = (MultimodalDataset(**table(6, context=None, size_factors=f)) for f in (factors, None))
    model = small(plain)
    with torch.no_grad():  # without latents, what is decoded is one mean
        model.decoders["b"].network.body[-1].weight.zero_()
    imputed, expected = model.impute(data.batch(), K=3)["b"], model.impute(plain.batch(), K=3)["b"]
    lacking = torch.tensor([1, 4])  # one with a factor, one without
    torch.testing.assert_close(imputed[lacking], expected[lacking] * torch.tensor([[3.0], [1.0]]))
    score = model.conditional_log_likelihood(data.batch(), ["b"], [], K=2)
    mean = model.generate(1)["b"]
    for row, position in ((0, 0), (2, 1), (3, 2), (5, 3)):
        x = data.batch().x["b"][position]
        mu = mean[0] * float(factors["b"][row])
        # θ = 1: the geometric distribution, log p(x) = x log μ − (x + 1) log(1 + μ)
        by_hand = (x * mu.log() - (x + 1) * mu.log1p()).sum()
        torch.testing.assert_close(score[row], by_hand, rtol=1e-4, atol=1e-4)
    assert torch.equal(data.batch().only(["a"]).size_factors["b"][:2], torch.tensor([2.0, 3.0]))


def test_the_context_of_a_model_is_saved_with_it(tmp_path: Path) -> None:
    data = MultimodalDataset(**table(6))
    model = small(data)
    model.fit_transforms(data)
    mvcore.save(model, tmp_path / "model")
    loaded = mvcore.load(tmp_path / "model")
    assert loaded.schema == model.schema
    assert torch.equal(loaded.embed(data.batch()), model.embed(data.batch()))


def test_covariates_of_no_rows_are_no_rows() -> None:
    assert covariates({"age": np.zeros(0, np.float32)}, 0)["age"].shape == (0,)
