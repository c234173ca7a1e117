"""The laws of mcVAE (Antelmi et al., 2019) and its sparse variant: on linear maps, with arbitrary encoders."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

import mvcore
from mvcore.data import Schema
from mvcore.errors import ConfigError, NotApplicableError
from mvcore.models import Model
from mvcore.testing import (
    LinearGaussian,
    all_patterns,
    fixed_noise,
    sigma_points,
    small,
)
from mvcore_mcvae.dropout import DropoutExperts
from mvcore_mcvae.sparsity import active, dropout_rates, removed

SIZES = {"a": 5, "b": 6, "c": 4}
D = 2
SPARSE = {"posterior": "variational_dropout", "loss": {"use": "variational_dropout", "samples": 2 * D}}


@pytest.fixture
def world() -> LinearGaussian:
    return LinearGaussian(SIZES, D)


@pytest.fixture
def batch(world: LinearGaussian) -> mvcore.Batch:
    return world.sample(14, observed=all_patterns(3).repeat(2, 1))


def make(schema: Schema, **fields: object) -> Model:
    """mcVAE with random small encoders and 2D draws of each expert, in float64; where it is sparse, unequal rates."""
    chosen = {} if "loss" in fields else {"loss.samples": 2 * D}
    model = small("mcvae", schema, **{"latent_dim": D, **chosen, **fields})
    if isinstance(model.joint_posterior, DropoutExperts):
        model.joint_posterior.log_alpha.data.copy_(torch.linspace(-1.0, 0.5, len(model.joint_posterior.log_alpha)))
    return model


def with_exact_decoders(world: LinearGaussian, **fields: object) -> Model:
    model = make(world.schema, **fields)
    model.decoders.update(world.decoders())
    return model


def expected_reconstruction(world: LinearGaussian, one: mvcore.Batch, loc: Tensor, variance: Tensor) -> Tensor:
    """E_q Σ_m log p(x_m | z) under a normal q, in closed form."""
    total = torch.zeros((), dtype=torch.float64)
    for m in one.names:
        if one.column(m)[0]:
            at_mean = Normal(world.W[m] @ loc + world.b[m], world.sigma[m]).log_prob(one.x[m][0]).sum()
            total = total + at_mean - 0.5 * (world.precision(m) * variance).sum()
    return total


@pytest.mark.parametrize("beta", [1.0, 2.5])
def test_loss_is_the_likelihood_and_the_mean_divergence_of_the_channels(
    world: LinearGaussian, batch: mvcore.Batch, beta: float
) -> None:
    """(1/|O|) Σ_c [−log p(x_O) + KL(q_c ‖ p(z|x_O)) + (β − 1) KL(q_c ‖ p)]."""
    model = with_exact_decoders(world, **{"loss.beta": beta})
    encoded = {m: model.posterior(model.encode_modalities(batch.only([m]))).shared.components[0] for m in SIZES}
    law = -world.log_likelihood(batch)
    exact, count = world.posterior(batch), batch.observed.sum(1)
    for m, q in encoded.items():
        parts = q.kl(exact) + (beta - 1) * q.kl(type(q).unit(14, D, like=q.loc))
        law = law + parts.where(batch.column(m), 0) / count
    with sigma_points():
        torch.testing.assert_close(model(batch).loss, law.mean())


def test_a_random_channel_agrees_in_the_mean_with_all_of_them(world: LinearGaussian, batch: mvcore.Batch) -> None:
    exact, drawn = (with_exact_decoders(world, **{"loss.stratified": s}) for s in (True, False))
    drawn.loss.samples = 1
    many = batch.select(torch.arange(14).repeat(400))
    torch.manual_seed(0)
    with torch.no_grad():
        losses = torch.stack([drawn(many).loss for _ in range(20)])
        with sigma_points():
            expected = exact(batch).loss
    assert abs(float(losses.mean() - expected)) < 6 * float(losses.std()) / math.sqrt(20)


# The sparse variant


def test_sparse_experts_have_variances_that_are_a_multiple_of_their_squared_means(
    world: LinearGaussian, batch: mvcore.Batch
) -> None:
    model = make(world.schema, **SPARSE)
    q = model.posterior(model.encode_modalities(batch)).shared
    for i, m in enumerate(SIZES):
        mu = model.encoders[m](batch.x[m]).loc
        torch.testing.assert_close(q.components.loc[i, batch.rows(m)], mu)
        variance = model.joint_posterior.log_alpha.exp() * mu**2
        torch.testing.assert_close(q.components.scale[i, batch.rows(m)] ** 2, variance)


@pytest.mark.parametrize("beta", [1.0, 2.0])
def test_sparse_loss_is_the_mean_reconstruction_and_the_divergence_of_the_rates(
    world: LinearGaussian, batch: mvcore.Batch, beta: float
) -> None:
    model = with_exact_decoders(world, **SPARSE, **{"loss.beta": beta})
    alpha = model.joint_posterior.log_alpha.exp()
    sigmoid = 1 / (1 + (-(1.8732 + 1.48695 * alpha.log())).exp())
    kl = -(0.63576 * sigmoid - 0.5 * (1 + 1 / alpha).log() - 0.63576).sum()
    rows = []
    for row in range(14):
        one = batch.select(torch.tensor([row]))
        have = [m for m in SIZES if one.column(m)[0]]
        locs = [model.encoders[m](one.x[m]).loc[0] for m in have]
        each = [expected_reconstruction(world, one, mu, alpha * mu**2) for mu in locs]
        rows.append(beta * kl - torch.stack(each).mean())
    with sigma_points():
        torch.testing.assert_close(model(batch).loss, torch.stack(rows).mean())


@pytest.mark.parametrize("log_alpha", [-8.0, -3.0, -1.0, 0.0, 1.0, 3.0, 8.0])
def test_the_approximation_is_the_divergence_from_the_log_uniform_prior(log_alpha: float) -> None:
    r"""KL = E log|ε| − ½ log α + ½ (γ + log 2), ε ~ N(1, α), whose constant makes it 0 as α → ∞; by integration."""
    alpha, n = math.exp(log_alpha), 4_000_001
    edge = torch.linspace(-12, 12, n, dtype=torch.float64)
    middle = (edge[1:] + edge[:-1]) / 2  # the logarithm's pole lies between two points, or its cell weighs nothing
    weight = Normal(0.0, 1.0).log_prob(middle).exp() * 24 / (n - 1)
    mean_log = float((weight * (1 + math.sqrt(alpha) * middle).abs().clamp(min=1e-12).log()).sum())
    exact = mean_log - 0.5 * log_alpha + 0.5 * (0.5772156649015329 + math.log(2))
    posterior = DropoutExperts(["a"], 1).double()
    posterior.log_alpha.data.fill_(log_alpha)
    assert float(posterior.divergence().detach()) == pytest.approx(exact, abs=0.01)


def test_a_rate_near_one_costs_nothing_and_one_near_zero_much() -> None:
    posterior = DropoutExperts(["a"], 3).double()
    posterior.log_alpha.data.copy_(torch.tensor([30.0, 0.0, -30.0]))
    found = []
    for d in range(3):
        one = DropoutExperts(["a"], 1).double()
        one.log_alpha.data.fill_(float(posterior.log_alpha[d].detach()))
        found.append(float(one.divergence().detach()))
    assert found[0] == pytest.approx(0, abs=1e-6)
    assert found[2] == pytest.approx(15 + 0.63576, abs=1e-6)
    assert float(posterior.divergence().detach()) == pytest.approx(sum(found))
    assert posterior.rates.tolist() == pytest.approx([1, 0.5, 0], abs=1e-6)


def test_means_of_zero_leave_the_loss_and_its_gradients_finite(world: LinearGaussian, batch: mvcore.Batch) -> None:
    model = make(world.schema, **SPARSE)
    for m in SIZES:
        model.encoders[m].head.linear.weight.data.zero_()
        model.encoders[m].head.linear.bias.data.zero_()
    output = model(batch)
    output.loss.backward()
    assert output.loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


# Removing dimensions


def sparse_of_five(world: LinearGaussian, **fields: object) -> Model:
    model = make(world.schema, latent_dim=5, **SPARSE, **fields)
    model.joint_posterior.log_alpha.data.copy_(torch.tensor([-3.0, 2.0, -1.0, 4.0, -0.1]))
    return model


def test_rates_tell_which_dimensions_are_active(world: LinearGaussian) -> None:
    model = sparse_of_five(world)
    assert dropout_rates(model).tolist() == pytest.approx([1 / (1 + math.exp(-v)) for v in (-3, 2, -1, 4, -0.1)])
    assert active(model) == (0, 2, 4)
    assert active(model, 0.1) == (0,)
    assert active(model, 0.9) == (0, 1, 2, 4)


@pytest.mark.parametrize("private_dim", [0, 2])
def test_a_model_without_dimensions_is_the_other_that_decodes_them_as_zero(
    world: LinearGaussian, batch: mvcore.Batch, private_dim: int
) -> None:
    model = sparse_of_five(world, private_dim=private_dim).eval()
    smaller = removed(model)
    kept = [0, 2, 4]
    assert (smaller.config.latent_dim, model.config.latent_dim, smaller.latent_dim) == (3, 5, 3)
    with torch.no_grad():
        whole, part = (m.encode_modalities(batch).experts for m in (model, smaller))
        for m in SIZES:
            torch.testing.assert_close(part[m].loc, whole[m].loc[:, kept])
            if private_dim:
                torch.testing.assert_close(part[m].private_loc, whole[m].private_loc)
                torch.testing.assert_close(part[m].private_log_scale, whole[m].private_log_scale)
            z = torch.randn(2, 14, 5, dtype=torch.float64)
            z[..., [1, 3]] = 0
            latents = {"shared": z, f"private/{m}": torch.randn(2, 14, private_dim, dtype=torch.float64)}
            fewer = {**latents, "shared": z[..., kept]}
            torch.testing.assert_close(smaller.decode(fewer, m).mean, model.decode(latents, m).mean)
    torch.testing.assert_close(smaller.joint_posterior.log_alpha, model.joint_posterior.log_alpha[kept])


def test_images_are_cut_too() -> None:
    schema = Schema.from_shapes({"image": (1, 16, 16), "table": (3,)})
    model = mvcore.create("mcvae", schema, latent_dim=5, **SPARSE).double().eval()
    model.joint_posterior.log_alpha.data.copy_(torch.tensor([-3.0, 2.0, -1.0, 4.0, -0.1]))
    smaller, z = removed(model), torch.randn(1, 3, 5, dtype=torch.float64)
    z[..., [1, 3]] = 0
    with torch.no_grad():
        for m in schema.names:
            whole = model.decode({"shared": z}, m).mean
            torch.testing.assert_close(smaller.decode({"shared": z[..., [0, 2, 4]]}, m).mean, whole)


def test_a_smaller_model_trains_on_saves_loads_and_scores(
    world: LinearGaussian, batch: mvcore.Batch, tmp_path: Path
) -> None:
    model, state = sparse_of_five(world), torch.get_rng_state()
    smaller = removed(model)
    assert torch.equal(state, torch.get_rng_state())
    optimizer = torch.optim.Adam(smaller.parameters())
    smaller(batch).loss.backward()
    optimizer.step()
    again = mvcore.load(mvcore.save(smaller, tmp_path / "model"))
    assert again.config == smaller.config
    with fixed_noise():
        torch.testing.assert_close(again(batch).loss, smaller.eval()(batch).loss)
    assert again.log_likelihood(batch, 10).isfinite().all()


def test_what_can_not_be_removed_is_said(world: LinearGaussian) -> None:
    with pytest.raises(
        NotApplicableError, match="is ProductOfExperts, which has no dropout rates; build the model with"
    ):
        removed(make(world.schema))
    with pytest.raises(ConfigError, match=r"a dropout rate of at most 0.01 is needed; got \[0.047, 0.881"):
        removed(sparse_of_five(world), 0.01)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"loss": "variational_dropout"}, "set posterior='variational_dropout', got ProductConfig"),
        ({"posterior": "variational_dropout", "prior.family": "laplace"}, "must be of one family"),
    ],
)
def test_settings_that_do_not_fit_are_refused(fields: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        small("mcvae", Schema.from_shapes({"a": (3,), "b": (2,)}), **fields)


def test_a_loss_put_together_by_hand_refuses_another_posterior(world: LinearGaussian, batch: mvcore.Batch) -> None:
    model = make(world.schema, **SPARSE)
    model.joint_posterior = make(world.schema).joint_posterior
    with pytest.raises(ConfigError, match="needs the posterior DropoutExperts, got ProductOfExperts"):
        model(batch)
