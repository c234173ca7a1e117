"""The laws of MoPoE (Sutter et al., 2021): on linear maps, whose posteriors are known, with arbitrary encoders."""

from __future__ import annotations

import math

import pytest
import torch

import mvcore
from mvcore.data import Schema
from mvcore.models import Model
from mvcore.testing import LinearGaussian, all_patterns, sigma_points, small

SIZES = {"a": 5, "b": 6, "c": 4}
D = 2


@pytest.fixture
def world() -> LinearGaussian:
    return LinearGaussian(SIZES, D)


def make(schema: Schema, **fields: object) -> Model:
    """A MoPoE with random small encoders that draws 2D times from every component, in float64."""
    return small("mopoe", schema, **{"loss.samples": 2 * D, "loss.stratified": True, "latent_dim": D, **fields})


def with_exact_decoders(world: LinearGaussian, **fields: object) -> Model:
    model = make(world.schema, **fields)
    model.decoders.update(world.decoders())
    return model


def subset_divergences(model: Model, world: LinearGaussian, batch: mvcore.Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean over a row's components of KL(q_S ‖ p(z|x_O)) and of KL(q_S ‖ p), each ``(B,)``."""
    q = model.posterior(model.encode_modalities(batch)).shared
    exact, prior = world.posterior(batch), type(q.components).unit(D, like=q.components.loc)
    to_exact = (q.weights * q.components.kl(exact)).sum(0)
    return to_exact, (q.weights * q.components.kl(prior)).sum(0)


@pytest.mark.parametrize("beta", [1.0, 2.5])
@pytest.mark.parametrize("prior_expert", ["none", "every", "full"])
def test_convex_loss_is_the_likelihood_and_the_mean_divergence_of_the_subsets(
    world: LinearGaussian, beta: float, prior_expert: str
) -> None:
    batch = world.sample(21, observed=all_patterns(3).repeat(3, 1))
    model = with_exact_decoders(world, **{"loss.beta": beta, "posterior.prior_expert": prior_expert})
    with sigma_points():
        loss = model(batch).loss
    to_exact, to_prior = subset_divergences(model, world, batch)
    law = -world.log_likelihood(batch) + to_exact + (beta - 1) * to_prior
    torch.testing.assert_close(loss, law.mean())


def test_monte_carlo_loss_is_the_likelihood_and_the_divergence_of_the_mixture(world: LinearGaussian) -> None:
    batch = world.sample(7, observed=all_patterns(3))
    model = with_exact_decoders(world, **{"loss.kl": "monte_carlo", "loss.samples": 20_000})
    loss = model(batch).loss
    q = model.posterior(model.encode_modalities(batch))
    draws = q.draw(20_000)
    ratio = q.log_prob(draws) - world.posterior(batch).log_prob(draws["shared"])
    law = (-world.log_likelihood(batch) + ratio.mean(0)).mean()
    error = float(ratio.detach().std(0).mean()) / math.sqrt(20_000 * 7)
    assert abs(float((loss - law).detach())) < 6 * error


def test_convex_and_monte_carlo_loss_differ_by_at_most_the_log_number_of_subsets(world: LinearGaussian) -> None:
    batch = world.sample(7, observed=all_patterns(3))
    fields = {"loss.samples": 20_000}
    convex = with_exact_decoders(world, **fields)
    tight = with_exact_decoders(world, **fields, **{"loss.kl": "monte_carlo"})
    counts = 2.0 ** batch.observed.sum(1) - 1
    for row in range(7):
        one = batch.select(torch.tensor([row]))
        torch.manual_seed(0)
        above = convex(one).loss
        torch.manual_seed(0)
        difference = float((above - tight(one).loss).detach())
        assert -0.05 <= difference <= math.log(counts[row]) + 0.05  # 0.05: six standard errors of 20,000 draws


def test_with_the_prior_in_every_product_each_component_is_the_exact_posterior_of_its_subset(
    world: LinearGaussian,
) -> None:
    batch = world.sample(5)
    model = make(world.schema, **{"posterior.prior_expert": "every"})
    model.encoders.update(world.encoders("likelihood"))
    mixture = model.posterior(model.encode_modalities(batch)).shared
    assert mixture.shape == (7, 5)
    for c in range(7):
        members = [m for i, m in enumerate(SIZES) if (c + 1) >> i & 1]
        exact = world.posterior(batch, members)
        torch.testing.assert_close(mixture.components.loc[c], exact.loc)
        torch.testing.assert_close(mixture.components.log_scale[c], exact.log_scale)


def test_the_full_prior_expert_is_in_the_component_of_all_modalities_alone(world: LinearGaussian) -> None:
    batch = world.sample(6, observed=torch.tensor([[True, True, True], [True, True, False]]).repeat(3, 1))
    none, full = make(world.schema), make(world.schema, **{"posterior.prior_expert": "full"})
    without = none.posterior(none.encode_modalities(batch)).shared.components.log_scale
    with_prior = full.posterior(full.encode_modalities(batch)).shared.components.log_scale
    complete = batch.observed.all(1)
    torch.testing.assert_close(with_prior[:6], without[:6])
    added = torch.exp(-2 * with_prior[6, complete]) - torch.exp(-2 * without[6, complete])
    torch.testing.assert_close(added, torch.ones_like(added))


def test_seven_subsets_share_a_complete_row_equally_and_three_a_row_of_two(world: LinearGaussian) -> None:
    batch = world.sample(2, observed=torch.tensor([[True, True, True], [True, False, True]]))
    model = make(world.schema)
    weights = model.posterior(model.encode_modalities(batch)).shared.weights
    assert weights[:, 0].tolist() == pytest.approx([1 / 7] * 7)
    # subsets in binary order: a, b, ab, c, ac, bc, abc
    assert weights[:, 1].tolist() == pytest.approx([1 / 3, 0, 0, 1 / 3, 1 / 3, 0, 0])


def test_private_latents_add_their_divergence_and_reconstruct_with_their_posterior() -> None:
    private = {"a": 1, "b": 2, "c": 1}
    world = LinearGaussian(SIZES, D, private)
    batch = world.sample(21, observed=all_patterns(3).repeat(3, 1))
    model = make(world.schema, private_dim=private, **{"loss.beta_private": 3.0})
    model.encoders.update(world.encoders("posterior"))
    model.decoders.update(world.decoders())
    with sigma_points():
        loss = model(batch).loss
    to_exact, _ = subset_divergences(model, world, batch)
    law = -world.log_likelihood(batch) + to_exact
    for m in SIZES:
        posterior = world.private_posterior(batch, m)
        law[batch.rows(m)] += 2.0 * posterior.kl(type(posterior).unit(private[m], like=posterior.loc))
    torch.testing.assert_close(loss, law.mean())


def test_an_absent_modality_draws_its_private_latent_from_the_prior() -> None:
    world = LinearGaussian(SIZES, D, {"a": 2})
    model = make(world.schema, private_dim={"a": 2})
    model.encoders.update(world.encoders("posterior"))
    batch = world.sample(3).only(["b", "c"])
    draws = model.encode(batch, 20_000)["private/a"]
    assert float(draws.mean().abs()) < 0.02
    assert float(draws.std()) == pytest.approx(1, abs=0.02)
