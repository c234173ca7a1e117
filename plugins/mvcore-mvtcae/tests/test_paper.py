"""The laws of MVTCAE (Hwang et al., 2021): on linear maps, whose posteriors are known, with arbitrary encoders."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence

import mvcore
from mvcore.data import Schema
from mvcore.errors import ConfigError
from mvcore.models import Model
from mvcore.testing import LinearGaussian, all_patterns, fixed_noise, sigma_points, small

SIZES = {"a": 5, "b": 6, "c": 4}
D = 2
PATTERNS = all_patterns(3).repeat(2, 1)


@pytest.fixture
def world() -> LinearGaussian:
    return LinearGaussian(SIZES, D)


def make(schema: Schema, **fields: object) -> Model:
    """An MVTCAE with random small encoders and 2D draws a row, in float64."""
    return small("mvtcae", schema, **{"loss.samples": 2 * D, "latent_dim": D, **fields})


def with_exact_decoders(world: LinearGaussian, **fields: object) -> Model:
    model = make(world.schema, **fields)
    model.decoders.update(world.decoders())
    return model


def experts(model: Model, batch: mvcore.Batch, row: int) -> dict[str, Normal]:
    """The encoders' normals of what a row has, in torch's own class."""
    one = batch.select(torch.tensor([row]))
    have = [m for m in one.names if one.column(m)[0]]
    encoded = {m: model.encoders[m](one.x[m]) for m in have}
    return {m: Normal(e.loc[0], e.log_scale[0].exp()) for m, e in encoded.items()}


def expected_loss(world: LinearGaussian, model: Model, batch: mvcore.Batch, row: int, alpha: float, beta: float):
    """The paper's formula for one row, from torch.distributions and the closed expectation of the likelihood."""
    q_m = experts(model, batch, row)
    one, count = batch.select(torch.tensor([row])), len(q_m)
    precision = sum(q.scale**-2 for q in q_m.values())
    q = Normal(sum(q.loc * q.scale**-2 for q in q_m.values()) / precision, precision**-0.5)
    reconstruction = torch.zeros((), dtype=torch.float64)
    for m in q_m:
        at_mean = Normal(world.W[m] @ q.loc + world.b[m], world.sigma[m]).log_prob(one.x[m][0]).sum()
        reconstruction += at_mean - 0.5 * (world.precision(m) * q.variance).sum()
    to_prior = kl_divergence(q, Normal(torch.zeros(D).double(), 1)).sum()
    to_experts = sum(kl_divergence(q, one_expert).sum() for one_expert in q_m.values())
    return -(count - alpha) / count * reconstruction + beta * ((1 - alpha) * to_prior + alpha / count * to_experts)


@pytest.mark.parametrize("alpha", ["modalities", 5 / 6, 0.0])
def test_loss_is_the_papers_formula_for_any_encoders(world: LinearGaussian, alpha: float | str) -> None:
    batch = world.sample(14, observed=PATTERNS)
    model = with_exact_decoders(world, **{"loss.alpha": alpha, "loss.beta": 2.5})
    rows = []
    for row in range(14):
        count = int(batch.observed[row].sum())
        share = count / (count + 1) if alpha == "modalities" else alpha
        rows.append(expected_loss(world, model, batch, row, share, 2.5))
    with sigma_points():
        torch.testing.assert_close(model(batch).loss, torch.stack(rows).mean())


def test_alone_the_total_correlation_predicts_the_other_modalities_from_each(world: LinearGaussian) -> None:
    """α = β = 1, experts that are likelihoods: −(1/M) Σ_m log ∫ q_m(z) p(x_−m | z) dz, a Gaussian of x_−m."""
    batch = world.sample(8, observed=torch.tensor([[True, True, True], [True, False, True]]).repeat(4, 1))
    model = with_exact_decoders(world, **{"loss.alpha": 1.0})
    model.encoders.update(world.encoders("likelihood"))
    law = torch.stack([_leave_one_in(world, batch.select(torch.tensor([row]))) for row in range(8)])
    with sigma_points():
        torch.testing.assert_close(model(batch).loss, law.mean())


def _leave_one_in(world: LinearGaussian, one: mvcore.Batch) -> Tensor:
    have = [m for m in one.names if one.column(m)[0]]
    total = torch.zeros((), dtype=torch.float64)
    for m in have:
        others = [n for n in have if n != m]
        mean_z = (one.x[m][0] - world.b[m]) @ world.W[m] / world.sigma[m] ** 2 / world.precision(m)
        W = torch.cat([world.W[n] for n in others])
        noise = torch.cat([torch.full((SIZES[n],), world.sigma[n] ** 2, dtype=torch.float64) for n in others])
        mean = W @ mean_z + torch.cat([world.b[n] for n in others])
        density = MultivariateNormal(mean, W @ torch.diag(1 / world.precision(m)) @ W.T + torch.diag(noise))
        total -= density.log_prob(torch.cat([one.x[n][0] for n in others])) / len(have)
    return total


@pytest.mark.parametrize("alpha", [0.5, 5 / 6])
def test_a_row_of_one_modality_gets_a_share_of_its_elbo(world: LinearGaussian, alpha: float) -> None:
    batch = world.sample(3, observed=torch.eye(3, dtype=torch.bool))
    model = with_exact_decoders(world, **{"loss.alpha": alpha, "loss.beta": 2.0})
    q = model.posterior(model.encode_modalities(batch)).shared.components[0]
    prior = type(q).unit(3, D, like=q.loc)
    elbo = -world.log_likelihood(batch) + q.kl(world.posterior(batch)) + q.kl(prior)  # β = 2: one more KL
    with sigma_points():
        torch.testing.assert_close(model(batch).loss, (1 - alpha) * elbo.mean())


def test_by_default_all_divergences_of_a_row_weigh_the_same() -> None:
    """Five modalities: α = 5/6, and 1 − α = α/5 = 1/6, the official weights."""
    world = LinearGaussian(dict.fromkeys("abcde", 3), D)
    model, batch = with_exact_decoders(world), world.sample(4)
    with torch.no_grad(), sigma_points():
        terms = model(batch).terms
    q = model.posterior(model.encode_modalities(batch)).shared.components[0]
    prior = q.kl(type(q).unit(4, D, like=q.loc)).mean()
    torch.testing.assert_close(terms["kl"], (prior / 6).detach())
    encoded = model.encode_modalities(batch).experts["c"]
    expert = kl_divergence(Normal(q.loc, q.scale), Normal(encoded.loc, encoded.log_scale.exp())).sum(-1).mean()
    torch.testing.assert_close(terms["correlation/c"], (expert / 6).detach())


@pytest.mark.parametrize("fields", [{}, {"loss.alpha": 0.7, "private_dim": 2}])
def test_a_row_that_a_view_leaves_with_nothing_has_a_loss_of_0(
    world: LinearGaussian, fields: dict[str, object]
) -> None:
    model, batch = make(world.schema, **{**fields, "loss.samples": 1}), world.sample(4)
    assert float(model(batch.without(SIZES)).loss) == 0
    # three rows of four have nothing: the mean is a quarter of the first row's loss, and so are the gradients
    some = batch.keep(torch.tensor([[True] * 3, *[[False] * 3] * 3]))
    with fixed_noise():
        loss, alone = model(some).loss, model(batch.select(torch.tensor([0]))).loss
    torch.testing.assert_close(loss, alone / 4)
    weights = list(model.encoders.parameters())
    whole, part = (torch.autograd.grad(value, weights) for value in (alone, loss))
    torch.testing.assert_close([4 * g for g in part], list(whole))


def test_a_mixture_and_an_alpha_above_one_are_refused() -> None:
    schema = Schema.from_shapes({"a": (3,), "b": (2,)})
    with pytest.raises(
        ConfigError, match=r"needs one product for each row; set posterior.subsets='observed', got 'all'"
    ):
        make(schema, **{"posterior.subsets": "all"})
    with pytest.raises(ConfigError, match=r"alpha must lie in \[0, 1\] or be 'modalities', got 1.2"):
        make(schema, **{"loss.alpha": 1.2})
