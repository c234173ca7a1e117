"""Likelihood estimates against the closed forms of linear maps, on partial rows."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mvcore.data.batch import Batch
from mvcore.inference import estimators
from mvcore.losses.elbo import ELBO
from mvcore.models.multimodal import MultimodalVAE
from mvcore.testing.checks import all_patterns
from mvcore.testing.linear import LinearGaussian

Compose = Callable[..., MultimodalVAE]
MIXTURES = pytest.mark.parametrize("subsets", ["observed", "each", "all"])


@pytest.fixture
def batch(world: LinearGaussian) -> Batch:
    return world.sample(7, observed=all_patterns(3))


def repeated(batch: Batch, times: int) -> Batch:
    return batch.select(torch.arange(len(batch)).repeat_interleave(times))


@pytest.mark.parametrize("K", [1, 7])
def test_with_the_exact_posterior_the_likelihood_is_exact_at_any_k(
    K: int, world: LinearGaussian, batch: Batch, compose: Compose
) -> None:
    model = compose(world, experts="likelihood", prior_expert="every")
    torch.testing.assert_close(model.log_likelihood(batch, K), world.log_likelihood(batch))


@pytest.mark.parametrize("K", [1, 2, 3])
@MIXTURES
def test_the_estimate_is_unbiased_for_unequal_experts_and_any_pattern(
    subsets: str, K: int, world: LinearGaussian, batch: Batch, compose: Compose
) -> None:
    n = 600
    model = compose(world, experts="posterior", subsets=subsets)  # b knows more than c, a differs from both
    many = repeated(batch, n)
    ratio = (model.log_likelihood(many, K) - world.log_likelihood(batch).repeat_interleave(n)).exp().view(7, n)
    error = ratio.std(1) / math.sqrt(n)
    assert ((ratio.mean(1) - 1).abs() < 5 * error + 1e-9).all()
    if subsets != "observed":
        assert error[-1] > 1e-3  # there is noise to be unbiased in


@MIXTURES
@pytest.mark.parametrize("experts", ["posterior", "any"])
def test_the_estimate_converges_to_the_likelihood(
    experts: str, subsets: str, world: LinearGaussian, batch: Batch, compose: Compose
) -> None:
    K = 20_000
    model = compose(world, experts=experts, subsets=subsets, prior_expert="none")
    encodings = model.encode_modalities(batch)
    latents, log_weights = estimators.importance_weights(model, batch, encodings, K)
    ratio = (log_weights - latents.per_row(world.log_likelihood(batch))).detach().exp()
    error = ((latents.mean(ratio**2) - 1).clamp(min=0) / K).sqrt()
    estimate = model.log_likelihood(batch, K)
    assert ((estimate - world.log_likelihood(batch)).abs() < 6 * error + 1e-9).all()


def test_a_likelihood_is_low_on_average(world: LinearGaussian, batch: Batch, compose: Compose) -> None:
    model = compose(world, subsets="each")
    many = repeated(batch, 60)
    gaps = [
        (model.log_likelihood(many, K) - world.log_likelihood(batch).repeat_interleave(60)).mean() for K in (1, 10, 100)
    ]
    assert gaps[0] < gaps[1] < gaps[2] < 0.01


@MIXTURES
@pytest.mark.parametrize("block", [1, 5, 10**6])
@pytest.mark.parametrize("K", [1, 6])
def test_chunking_changes_nothing(
    subsets: str, block: int, K: int, world: LinearGaussian, batch: Batch, compose: Compose,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    model = compose(world, subsets=subsets)

    def results() -> list[Tensor]:
        return [
            model.log_likelihood(batch, K),
            model.conditional_log_likelihood(batch, ["a"], None, "ratio", K),
            *model.impute(batch, K=K).values(),
        ]

    expected = results()
    monkeypatch.setattr(estimators, "BLOCK", block)
    for found, hand in zip(results(), expected, strict=True):
        torch.testing.assert_close(found, hand, equal_nan=True)


def test_neither_beta_nor_the_weights_of_a_loss_enter_a_likelihood(
    world: LinearGaussian, batch: Batch, compose: Compose
) -> None:
    model = compose(world, ELBO(beta=7.0), experts="likelihood", prior_expert="every", modality_weights={"a": 9.0})
    torch.testing.assert_close(model.log_likelihood(batch, 2), world.log_likelihood(batch))


@MIXTURES
def test_a_likelihood_of_no_rows(subsets: str, world: LinearGaussian, batch: Batch, compose: Compose) -> None:
    model = compose(world, subsets=subsets)
    assert model.log_likelihood(batch.select(torch.zeros(0, dtype=torch.long)), 5).shape == (0,)


def test_private_latents_are_integrated_out(compose: Compose) -> None:
    world = LinearGaussian({"a": 5, "b": 6, "c": 5}, 2, {"a": 1, "c": 2})
    batch = world.sample(7, observed=all_patterns(3))
    exact = compose(world, experts="likelihood", prior_expert="every")
    torch.testing.assert_close(exact.log_likelihood(batch, 1), world.log_likelihood(batch))


def exact_conditional(world: LinearGaussian, batch: Batch, target: list[str], given: list[str]) -> Tensor:
    value = world.log_likelihood(batch, [*target, *given]) - world.log_likelihood(batch, given)
    return value.where(batch.only(target).observed.any(1), torch.nan)


@pytest.mark.parametrize("estimator", ["predictive", "ratio", "reweighted"])
@pytest.mark.parametrize(("target", "given"), [(["a"], None), (["a", "c"], ["b"]), (["b"], ["a"])])
def test_each_estimator_has_the_exact_conditional_where_the_posterior_is_exact(
    target: list[str], given: list[str] | None, estimator: str, world: LinearGaussian, batch: Batch, compose: Compose
) -> None:
    K, n = 2000, 10
    model = compose(world, experts="likelihood", prior_expert="every")
    others = [m for m in "abc" if m not in target] if given is None else given
    exact = exact_conditional(world, batch, target, others)
    many = repeated(batch, n)
    found = model.conditional_log_likelihood(many, target, given, estimator, K).view(7, n)  # type: ignore[arg-type]
    missing = exact.isnan()
    assert missing.any()
    assert torch.equal(found.isnan().all(1), missing)
    assert torch.equal(found.isnan().any(1), missing)
    if estimator == "ratio":  # both parts are free of noise
        torch.testing.assert_close(found, exact[:, None].expand(7, n), equal_nan=True)
    else:
        error = found.std(1) / math.sqrt(n)
        close = (found.mean(1) - exact).abs() < 6 * error + 0.02  # 0.02: the logarithm of a mean is low by O(1/K)
        assert close[~missing].all()


def test_ratio_and_reweighted_reach_the_conditional_with_any_posterior_and_predictive_has_its_own(
    world: LinearGaussian, compose: Compose
) -> None:
    K = 10_000
    batch = world.sample(4)
    model = compose(world, subsets="each")
    exact = exact_conditional(world, batch, ["a"], ["b", "c"])
    for estimator in ("ratio", "reweighted"):
        found = model.conditional_log_likelihood(batch, ["a"], None, estimator, K)  # type: ignore[arg-type]
        torch.testing.assert_close(found, exact, atol=0.25, rtol=0)
    # predictive: the density of x_a under the mixture of two posteriors, each of them pushed through the decoder
    view = batch.only(["b", "c"])
    q = model.posterior(model.encode_modalities(view)).shared
    W, b, noise = world.W["a"], world.b["a"], world.sigma["a"] ** 2 * torch.eye(5, dtype=torch.float64)
    parts = []
    for c in range(2):
        covariance = W @ torch.diag_embed(q.components.scale[c] ** 2) @ W.T + noise
        density = torch.distributions.MultivariateNormal(q.components.loc[c] @ W.T + b, covariance)
        parts.append(density.log_prob(batch.x["a"]) + math.log(0.5))
    hand = torch.stack(parts).logsumexp(0).detach()
    found = model.conditional_log_likelihood(batch, ["a"], None, "predictive", K)
    torch.testing.assert_close(found, hand, atol=0.25, rtol=0)


@pytest.mark.parametrize("estimator", ["predictive", "ratio", "reweighted"])
def test_a_row_with_nothing_given_is_scored_by_the_prior(
    estimator: str, world: LinearGaussian, batch: Batch, compose: Compose
) -> None:
    model = compose(world, experts="likelihood", prior_expert="every")
    exact = world.log_likelihood(batch, ["a"])
    have = batch.column("a")
    for given in (["b"], []):
        rows = have & ~batch.column("b")  # rows with a and without b
        found = model.conditional_log_likelihood(batch, ["a"], given, estimator, 5_000)  # type: ignore[arg-type]
        torch.testing.assert_close(found[rows], exact[rows], atol=0.3, rtol=0)
