"""The ELBO on linear maps, where every posterior is known, with any encoders."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mvcore.data.batch import Batch
from mvcore.losses.base import LossOutput, warmed
from mvcore.losses.elbo import ELBO
from mvcore.losses.importance import IWAE
from mvcore.models.multimodal import MultimodalVAE
from mvcore.testing.checks import all_patterns
from mvcore.testing.linear import LinearGaussian
from mvcore.testing.noise import fixed_noise, sigma_points

Compose = Callable[..., MultimodalVAE]
D = 2


@pytest.fixture
def batch(world: LinearGaussian) -> Batch:
    return world.sample(21, observed=all_patterns(3).repeat(3, 1))


def divergences(model: MultimodalVAE, world: LinearGaussian, batch: Batch) -> tuple[Tensor, Tensor]:
    """KL(q ‖ p(z|x_O)) and KL(q ‖ p) of a posterior with one component a row, each ``(B,)``."""
    q = model.posterior(model.encode_modalities(batch)).shared
    exact, prior = world.posterior(batch), type(q.components).unit(D, like=q.weights)
    return (q.weights * q.components.kl(exact)).sum(0), (q.weights * q.components.kl(prior)).sum(0)


@pytest.mark.parametrize("prior_expert", ["none", "every", "full"])
@pytest.mark.parametrize("beta", [1.0, 0.0, 2.5])
def test_the_loss_is_the_likelihood_and_the_divergence_from_the_true_posterior(
    world: LinearGaussian, batch: Batch, compose: Compose, beta: float, prior_expert: str
) -> None:
    model = compose(world, ELBO(beta=beta, samples=2 * D, stratified=True), prior_expert=prior_expert)
    with sigma_points():
        loss = model(batch).loss
    to_exact, to_prior = divergences(model, world, batch)
    law = -world.log_likelihood(batch) + to_exact + (beta - 1) * to_prior
    torch.testing.assert_close(loss, law.mean())


def test_with_the_exact_posterior_the_loss_is_the_likelihood(
    world: LinearGaussian, batch: Batch, compose: Compose
) -> None:
    model = compose(world, ELBO(samples=2 * D), experts="likelihood", prior_expert="every")
    with sigma_points():
        torch.testing.assert_close(model(batch).loss, -world.log_likelihood(batch).mean())
    torch.testing.assert_close(  # and every draw of the Monte-Carlo version, of any noise
        compose(world, ELBO(kl="monte_carlo"), experts="likelihood", prior_expert="every")(batch).loss,
        -world.log_likelihood(batch).mean(),
    )


def test_the_gradient_is_that_of_the_divergence_from_the_true_posterior(
    world: LinearGaussian, batch: Batch, compose: Compose
) -> None:
    model = compose(world, ELBO(samples=2 * D), prior_expert="every")
    parameters = list(model.encoders.parameters())
    with sigma_points():
        gradients = torch.autograd.grad(model(batch).loss, parameters)
    expected = torch.autograd.grad(divergences(model, world, batch)[0].mean(), parameters)
    for found, hand in zip(gradients, expected, strict=True):
        torch.testing.assert_close(found, hand)


def test_random_and_stratified_draws_of_a_mixture_agree_in_the_mean(
    world: LinearGaussian, batch: Batch, compose: Compose
) -> None:
    losses = {}
    for stratified in (False, True):
        torch.manual_seed(0)
        model = compose(world, ELBO(stratified=stratified), subsets="all")
        one = torch.stack([model(batch).loss.detach() for _ in range(200)])
        losses[stratified] = one.mean(), one.var() / len(one)
    difference = losses[True][0] - losses[False][0]
    error = (losses[True][1] + losses[False][1]).sqrt()
    assert float(difference.abs()) < 4.5 * float(error)
    assert losses[True][1] < losses[False][1]  # stratification takes the components' share of the noise away


def test_the_monte_carlo_divergence_of_one_component_agrees_with_the_closed_form(
    world: LinearGaussian, batch: Batch, compose: Compose
) -> None:
    K = 20_000
    model = compose(world, ELBO(samples=K))
    q = model.posterior(model.encode_modalities(batch))
    latents = q.draw(K)
    ratio = (q.log_prob(latents) - model.prior().log_prob(latents)).detach()
    closed = q.shared.kl(model.prior().shared).detach()
    assert ((ratio.mean(0) - closed).abs() < 5 * ratio.std(0) / math.sqrt(K)).all()
    torch.manual_seed(3)
    above = model(batch)
    model.loss = ELBO(samples=K, kl="monte_carlo")
    torch.manual_seed(3)
    below = model(batch)
    assert float(above.terms["reconstruction/a"]) == float(below.terms["reconstruction/a"])
    assert float((above.loss - below.loss).detach().abs()) < 5 * float(ratio.std(0).mean()) / math.sqrt(K * len(batch))


@pytest.mark.parametrize("subsets", ["observed", "all"])
def test_the_terms_sum_to_the_loss(subsets: str, compose: Compose) -> None:
    world = LinearGaussian({"a": 5, "b": 6, "c": 4}, D, {"a": 1, "b": 2})
    batch = world.sample(14, observed=all_patterns(3).repeat(2, 1))
    model = compose(world, ELBO(beta=2.0, beta_private=0.3), subsets=subsets, modality_weights={"a": 3.0})
    output = model(batch)
    assert set(output.terms) == {"kl", "kl/a", "kl/b", *(f"reconstruction/{m}" for m in "abc")}
    torch.testing.assert_close(torch.stack(list(output.terms.values())).sum(), output.loss.detach())
    assert not any(term.requires_grad for term in output.terms.values())


def test_each_weight_of_a_divergence_scales_that_divergence_alone(compose: Compose) -> None:
    world = LinearGaussian({"a": 5, "b": 6}, D, {"a": 1, "b": 2})
    batch = world.sample(9, observed=all_patterns(2).repeat(3, 1))
    model = compose(world, ELBO())
    with fixed_noise():
        plain = model(batch).terms
        for fields, factors in [
            ({"beta": 2.0}, {"kl": 2.0, "kl/a": 2.0, "kl/b": 2.0}),
            ({"beta_shared": 2.0}, {"kl": 2.0}),
            ({"beta_private": 2.0}, {"kl/a": 2.0, "kl/b": 2.0}),
            ({"beta": 2.0, "beta_shared": 3.0, "beta_private": 0.5}, {"kl": 6.0, "kl/a": 1.0, "kl/b": 1.0}),
        ]:
            model.loss = ELBO(**fields)
            for name, value in model(batch).terms.items():
                torch.testing.assert_close(value, factors.get(name, 1.0) * plain[name])


@pytest.mark.parametrize("loss", [ELBO(), IWAE(samples=3)])
def test_weights_of_modalities_scale_the_reconstruction_and_never_a_likelihood(
    loss: torch.nn.Module, world: LinearGaussian, batch: Batch, compose: Compose
) -> None:
    models = {}
    for r in (1.0, 4.0):
        torch.manual_seed(0)
        models[r] = compose(world, loss, modality_weights={"b": r})
    if isinstance(loss, ELBO):
        with fixed_noise():
            plain, weighted = models[1.0](batch).terms, models[4.0](batch).terms
        for name, value in weighted.items():
            torch.testing.assert_close(value, (4 if name == "reconstruction/b" else 1) * plain[name])
    else:
        assert float(models[1.0](batch).loss.detach()) != float(models[4.0](batch).loss.detach())
    torch.testing.assert_close(models[4.0].log_likelihood(batch, 5), models[1.0].log_likelihood(batch, 5))


@pytest.mark.parametrize(
    ("epoch", "beta"), [(0.0, 0.0), (2.5, 0.5), (5.0, 1.0), (9.0, 1.8), (10.0, 2.0), (11.0, 2.0), (math.inf, 2.0)]
)
def test_beta_grows_linearly_over_the_warm_up(
    epoch: float, beta: float, world: LinearGaussian, batch: Batch, compose: Compose
) -> None:
    assert warmed(2.0, 10.0, epoch) == pytest.approx(beta)  # 2 · epoch / 10, up to 2
    assert warmed(2.0, 0.0, epoch) == 2.0
    model = compose(world, ELBO(beta=2.0, warmup=10.0))
    with fixed_noise():
        terms = model(batch, epoch=epoch).terms
        model.loss = ELBO()
        torch.testing.assert_close(terms["kl"], beta * model(batch).terms["kl"])
        torch.testing.assert_close(terms["reconstruction/a"], model(batch).terms["reconstruction/a"])


def test_private_latents_add_the_divergence_of_their_own_posterior(compose: Compose) -> None:
    private = {"a": 1, "b": 2, "c": 1}
    world = LinearGaussian({"a": 5, "b": 6, "c": 5}, D, private)
    batch = world.sample(14, observed=all_patterns(3).repeat(2, 1))
    model = compose(world, ELBO(samples=4, beta_private=3.0), experts="posterior")
    with sigma_points():
        loss = model(batch).loss
    to_exact, _ = divergences(model, world, batch)
    law = -world.log_likelihood(batch) + to_exact
    for m in private:  # q(w_m|x_m) is exact; its divergence from the prior counts 3 times instead of once
        exact = world.private_posterior(batch, m)
        law[batch.rows(m)] += 2 * exact.kl(type(exact).unit(private[m], like=exact.loc))
    torch.testing.assert_close(loss, law.mean())


def test_the_mean_over_no_rows_is_zero() -> None:
    output = LossOutput.from_rows({"a": torch.zeros(0, requires_grad=True), "b": torch.zeros(0)})
    assert float(output.loss.detach()) == 0
    assert float(LossOutput.from_rows({"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([0.0, 4.0])}).loss) == 3.5
