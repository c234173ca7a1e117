"""All eight likelihoods against scipy's densities; sums, moments, extremes and masks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from mvcore.errors import DataError
from mvcore.likelihoods.base import Likelihood
from mvcore.likelihoods.counts import (
    NegativeBinomialLikelihood,
    PoissonLikelihood,
    ZeroInflatedNegativeBinomialLikelihood,
)
from mvcore.likelihoods.discrete import BernoulliLikelihood, CategoricalLikelihood
from mvcore.likelihoods.real import LaplaceLikelihood, NormalLikelihood, StudentTLikelihood

LIKELIHOODS: dict[str, Callable[[tuple[int, ...]], Likelihood]] = {
    "normal": lambda s: NormalLikelihood(s, scale=0.7, learn="feature"),
    "laplace": lambda s: LaplaceLikelihood(s, scale=0.7, learn="predicted"),
    "student_t": lambda s: StudentTLikelihood(s, df=5.5, scale=0.7, learn="predicted"),
    "bernoulli": BernoulliLikelihood,
    "categorical": lambda s: CategoricalLikelihood(s, 4),
    "poisson": PoissonLikelihood,
    "negative_binomial": NegativeBinomialLikelihood,
    "zero_inflated_negative_binomial": ZeroInflatedNegativeBinomialLikelihood,
}
COUNTS = ["poisson", "negative_binomial", "zero_inflated_negative_binomial"]
ALL = pytest.mark.parametrize("name", list(LIKELIHOODS))


def made(name: str, *shape: int) -> Likelihood:
    likelihood = LIKELIHOODS[name](shape).double()
    for parameter in likelihood.parameters():
        nn.init.normal_(parameter)
    return likelihood


def scipys(name: str, likelihood: Any, outputs: Tensor, x: Tensor) -> Any:
    """Log-probabilities of ``x (N, F)`` by scipy, from outputs ``(N, P, F)``."""
    first, last, x = outputs[:, 0].numpy(), outputs[:, -1].numpy(), x.numpy()
    if name == "normal":
        return stats.norm.logpdf(x, first, np.exp(likelihood.log_scale.detach().numpy()))
    if name == "laplace":
        return stats.laplace.logpdf(x, first, np.exp(last))
    if name == "student_t":
        return stats.t.logpdf(x, 5.5, first, np.exp(last))
    if name == "bernoulli":
        return stats.bernoulli.logpmf(x, 1 / (1 + np.exp(-first)))
    if name == "categorical":
        p = np.exp(outputs.numpy())
        return np.log(np.take_along_axis(p / p.sum(1, keepdims=True), x[:, None], 1)[:, 0])
    if name == "poisson":
        return stats.poisson.logpmf(x, np.exp(first))
    theta, mean = np.exp(likelihood.log_theta.detach().numpy()), np.exp(first)
    log_p = stats.nbinom.logpmf(x, theta, theta / (theta + mean))
    if name == "negative_binomial":
        return log_p
    zero = 1 / (1 + np.exp(-last))
    return np.log(zero * (x == 0) + (1 - zero) * np.exp(log_p))


@ALL
def test_log_prob_is_scipys_and_sums_over_the_values(name: str) -> None:
    likelihood = made(name, 6)
    outputs = torch.randn(50, likelihood.n_outputs, 6, dtype=torch.float64)
    with torch.no_grad():
        observation = likelihood(outputs)
        x = observation.sample()[0]
        expected = torch.as_tensor(scipys(name, likelihood, outputs, x))
        torch.testing.assert_close(observation.values_log_prob(x), expected, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(observation.log_prob(x), expected.sum(1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("theta", [1e-3, 0.5, 15.9, 16.1, 300.0, 1e6])
@pytest.mark.parametrize("mean", [1e-3, 2.0, 4e3])
def test_a_negative_binomial_is_scipys_on_both_sides_of_its_switch(theta: float, mean: float) -> None:
    likelihood = made("negative_binomial", 1)
    nn.init.constant_(likelihood.log_theta, math.log(theta))  # type: ignore[arg-type]
    x = torch.tensor([0.0, 1.0, 3.0, 50.0, 5000.0], dtype=torch.float64)
    observation = likelihood(torch.full((5, 1, 1), math.log(mean), dtype=torch.float64))
    expected = torch.as_tensor(stats.nbinom.logpmf(x.numpy(), theta, theta / (theta + mean)))
    # where θ is large scipy's own log-gammas cancel to about θ · 1e-16 · log θ
    torch.testing.assert_close(observation.log_prob(x[:, None]).detach(), expected, rtol=1e-6, atol=1e-6)


def test_a_negative_binomial_without_dispersion_is_a_poisson() -> None:
    likelihood = NegativeBinomialLikelihood((4,))  # in float32, where log-gammas of θ would cancel to nothing
    nn.init.constant_(likelihood.log_theta, 80.0)
    outputs, x = torch.randn(3, 1, 4), torch.tensor([0.0, 1.0, 7.0, 30.0]).expand(3, 4)
    torch.testing.assert_close(likelihood(outputs).log_prob(x).detach(), PoissonLikelihood((4,))(outputs).log_prob(x))


@pytest.mark.parametrize("name", [*COUNTS, "bernoulli", "categorical"])
def test_the_probabilities_of_the_support_sum_to_one(name: str) -> None:
    likelihood = made(name, 1)
    nn.init.constant_(getattr(likelihood, "log_theta", torch.zeros(1)), 0.3)
    size = {"bernoulli": 2, "categorical": 4}.get(name, 600)
    support = torch.arange(size)[:, None] if name == "categorical" else torch.arange(size).double()[:, None]
    outputs = torch.randn(likelihood.n_outputs, 1, dtype=torch.float64)
    log_p = likelihood(outputs.expand(size, -1, -1)).log_prob(support)
    torch.testing.assert_close(log_p.exp().sum().item(), 1.0, rtol=0, atol=1e-9)


@ALL
def test_mean_and_stddev_are_those_of_the_draws(name: str) -> None:
    likelihood, n = made(name, 3), 40_000
    for parameter in likelihood.parameters():
        nn.init.constant_(parameter, 0.5)
    outputs = 0.5 * torch.randn(2, likelihood.n_outputs, 3, dtype=torch.float64)
    with torch.no_grad():
        observation = likelihood(outputs)
        draws = observation.sample(n)
    if name == "categorical":
        draws = (draws[:, :, None] == torch.arange(4)[:, None]).double()
    assert draws.shape[1:] == observation.mean.shape
    mean, variance = observation.mean, observation.stddev.square()
    # five standard errors of a mean, and of a variance from the draws' fourth moments
    assert ((draws.mean(0) - mean).abs() < 5 * (variance / n).sqrt() + 1e-12).all()
    squares = (draws - mean).square()
    assert ((squares.mean(0) - variance).abs() < 5 * squares.std(0) / math.sqrt(n) + 1e-12).all()


EXTREMES = [-80.0, -20.0, 0.0, 20.0, 80.0]


@ALL
def test_values_and_gradients_are_finite_at_extremes_in_float32(name: str) -> None:
    for setting in EXTREMES:  # of log θ: e^80 is near the largest float32, e^-80 near the smallest
        likelihood = LIKELIHOODS[name]((3,))
        scale_like = name in ("normal", "laplace", "student_t")
        for parameter in likelihood.parameters():
            nn.init.constant_(parameter, setting / 20 if scale_like else setting)
        grid = torch.cartesian_prod(*[torch.tensor(EXTREMES)] * likelihood.n_outputs).view(-1, likelihood.n_outputs, 1)
        outputs = grid.expand(-1, -1, 3).clone()
        if scale_like and likelihood.n_outputs == 2:
            outputs[:, 1] /= 20
        outputs.requires_grad_()
        x = torch.tensor([0, 1, 1]) if name in ("bernoulli", "categorical") else torch.tensor([0, 1, 1000])
        x = x if name == "categorical" else x.float()
        value = likelihood(outputs).log_prob(x.expand(len(grid), 3))
        assert value.isfinite().all()
        for gradient in torch.autograd.grad(value.sum(), [outputs, *likelihood.parameters()]):
            assert gradient.isfinite().all(), (name, setting)


def test_an_outlier_of_a_student_t_has_a_finite_gradient() -> None:
    loc = torch.zeros(1, 1, 1, requires_grad=True)
    value = StudentTLikelihood((1,))(loc).log_prob(torch.full((1, 1), 1e30))
    value.sum().backward()
    assert value.isfinite().all()
    assert loc.grad is not None
    assert loc.grad.isfinite().all()


@ALL
@pytest.mark.parametrize("garbage", [math.nan, math.inf, -7.5])
def test_a_masked_cell_adds_nothing_whatever_stands_there(name: str, garbage: float) -> None:
    likelihood = made(name, 4)
    outputs = torch.randn(5, likelihood.n_outputs, 4, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        x = likelihood(outputs).sample()[0]
    mask = torch.rand(5, 4) < 0.6
    mask[0], mask[1] = False, True
    spoilt = x.clone()
    spoilt[~mask] = -9 if name == "categorical" else garbage
    leaves = [outputs, *likelihood.parameters()]
    known = likelihood(outputs).values_log_prob(x)
    value = likelihood(outputs).log_prob(spoilt, mask)
    assert value[0] == 0
    torch.testing.assert_close(value, torch.stack([row[m].sum() for row, m in zip(known, mask, strict=True)]))
    weights = torch.randn(5, dtype=torch.float64)
    expected = torch.autograd.grad((weights[:, None] * known)[mask].sum(), leaves, retain_graph=True)
    for one, other in zip(torch.autograd.grad((weights * value).sum(), leaves), expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", COUNTS)
def test_a_size_factor_multiplies_the_mean_of_a_row(name: str) -> None:
    likelihood = made(name, 3)
    outputs = torch.randn(2, 4, likelihood.n_outputs, 3, dtype=torch.float64)
    factors = torch.tensor([1.0, 0.25, 3.0, 10.0], dtype=torch.float64)
    scaled = likelihood(outputs).scaled(factors)
    torch.testing.assert_close(scaled.mean, likelihood(outputs).mean * factors[:, None])
    shifted = outputs.clone()
    shifted[:, :, 0] += factors.log()[:, None]
    x = scaled.sample()[0, 0].detach()
    torch.testing.assert_close(scaled.log_prob(x), likelihood(shifted).log_prob(x))


@pytest.mark.parametrize("name", sorted(set(LIKELIHOODS) - set(COUNTS)))
def test_what_is_no_count_has_no_size_factor(name: str) -> None:
    likelihood = made(name, 3)
    observation = likelihood(torch.zeros(2, likelihood.n_outputs, 3, dtype=torch.float64))
    with pytest.raises(DataError, match="choose a count likelihood"):
        observation.scaled(torch.ones(2))


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("wrong", [-1.0, 0.5])
def test_what_is_no_count_is_refused(name: str, wrong: float) -> None:
    likelihood = made(name, 2)
    assert likelihood.check(torch.tensor([[0.0, 3.0]])) is None
    assert "needs counts 0, 1, 2" in str(likelihood.check(torch.tensor([[wrong, 3.0]])))
