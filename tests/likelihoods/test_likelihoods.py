"""Likelihoods: densities against torch.distributions, moments against their own samples, masks and scales."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, distributions as td, nn

from mvcore.data.transforms import Affine
from mvcore.likelihoods.base import Likelihood, LikelihoodDecoder
from mvcore.likelihoods.counts import NegativeBinomialLikelihood
from mvcore.likelihoods.discrete import BernoulliLikelihood, CategoricalLikelihood
from mvcore.likelihoods.observations import Observation, Rescaled
from mvcore.likelihoods.real import LaplaceLikelihood, NormalLikelihood
from mvcore.nn.mlp import MLPDecoder

K, N = 3, 5
SHAPES = pytest.mark.parametrize("shape", [(4,), (2, 3), (3, 2, 2)])


def scaled(kind: type[NormalLikelihood | LaplaceLikelihood], learn: Literal["no", "feature", "predicted"]) -> Any:
    def make(shape: tuple[int, ...]) -> Likelihood:
        likelihood = kind(shape, scale=0.7, learn=learn).double()
        if learn == "feature":
            assert isinstance(likelihood.log_scale, nn.Parameter)
            torch.testing.assert_close(likelihood.log_scale.exp(), torch.full(shape, 0.7, dtype=torch.float64))
            nn.init.normal_(likelihood.log_scale)
        return likelihood

    return make


def binomial(shape: tuple[int, ...]) -> Likelihood:
    likelihood = NegativeBinomialLikelihood(shape).double()
    nn.init.normal_(likelihood.log_theta)
    return likelihood


def torchs(likelihood: Likelihood, outputs: Tensor) -> td.Distribution:
    """The same distribution by torch, from outputs ``(..., P, *shape)``."""
    first = outputs.select(-len(likelihood.shape) - 1, 0)
    if isinstance(likelihood, BernoulliLikelihood):
        return td.Bernoulli(logits=first, validate_args=False)
    if isinstance(likelihood, CategoricalLikelihood):
        return td.Categorical(logits=outputs.movedim(-len(likelihood.shape) - 1, -1))
    if isinstance(likelihood, NegativeBinomialLikelihood):  # total_count θ, logits log μ - log θ
        return td.NegativeBinomial(likelihood.log_theta.exp(), logits=first - likelihood.log_theta)
    assert isinstance(likelihood, NormalLikelihood | LaplaceLikelihood)
    scale: Tensor | float = math.exp(likelihood.log_scale) if isinstance(likelihood.log_scale, float) else 0.0
    if likelihood.predicted:
        scale = outputs.select(-len(likelihood.shape) - 1, 1).exp()
    elif isinstance(likelihood.log_scale, Tensor):
        scale = likelihood.log_scale.exp()
    return (td.Normal if isinstance(likelihood, NormalLikelihood) else td.Laplace)(first, scale)


FAMILIES: dict[str, Callable[[tuple[int, ...]], Likelihood]] = {
    **{
        f"{kind.__name__.lower().removesuffix('likelihood')}-{learn}": scaled(kind, learn)
        for kind in (NormalLikelihood, LaplaceLikelihood)
        for learn in ("no", "feature", "predicted")
    },
    "bernoulli": BernoulliLikelihood,
    "categorical": lambda shape: CategoricalLikelihood(shape, 4),
    "negative_binomial": binomial,
}
ALL = pytest.mark.parametrize("family", list(FAMILIES))


def case(family: str, shape: tuple[int, ...]) -> tuple[Likelihood, Tensor, Tensor]:
    """A likelihood, outputs ``(K, N, P, *shape)`` and one observation for each of the N."""
    likelihood = FAMILIES[family](shape)
    outputs = torch.randn(K, N, likelihood.n_outputs, *shape, dtype=torch.float64)
    x = torchs(likelihood, outputs[0]).sample()
    assert isinstance(x, Tensor)
    return likelihood, outputs, x


@ALL
@SHAPES
def test_log_prob_is_torchs_summed_over_the_observation(family: str, shape: tuple[int, ...]) -> None:
    likelihood, outputs, x = case(family, shape)
    observation = likelihood(outputs)
    expected = torchs(likelihood, outputs).log_prob(x).flatten(2).sum(-1)
    torch.testing.assert_close(observation.log_prob(x), expected)
    torch.testing.assert_close(observation.values_log_prob(x), torchs(likelihood, outputs).log_prob(x))


@ALL
@SHAPES
def test_a_mask_leaves_out_unknown_values_whatever_they_are(family: str, shape: tuple[int, ...]) -> None:
    likelihood, outputs, x = case(family, shape)
    mask = torch.rand(x.shape) < 0.5
    values = torchs(likelihood, outputs).log_prob(x)
    observation = likelihood(outputs)
    torch.testing.assert_close(observation.log_prob(x, mask), (values * mask).flatten(2).sum(-1))
    other = x.where(mask, torch.ones_like(x))
    assert torch.equal(observation.log_prob(other, mask), observation.log_prob(x, mask))
    everything = torch.ones_like(mask)
    torch.testing.assert_close(observation.log_prob(x, everything), observation.log_prob(x))
    assert not observation.log_prob(x, ~everything).any()


@ALL
def test_an_unknown_value_sends_no_gradient(family: str) -> None:
    likelihood, outputs, x = case(family, (4,))
    outputs.requires_grad_()
    mask = torch.tensor([True, False, True, True])
    likelihood(outputs).log_prob(x, mask).sum().backward()
    assert outputs.grad is not None
    assert outputs.grad.isfinite().all()
    assert not outputs.grad[..., 1].any()
    assert outputs.grad[..., 0].any()


@ALL
@SHAPES
def test_mean_and_deviation_are_those_of_the_samples(family: str, shape: tuple[int, ...]) -> None:
    k = 20_000
    likelihood, outputs, _ = case(family, shape)
    observation = likelihood(outputs[0, :2])
    drawn = observation.sample(k)
    assert drawn.shape == (k, 2, *shape)
    if isinstance(likelihood, CategoricalLikelihood):
        drawn = nn.functional.one_hot(drawn, 4).movedim(-1, 2).double()
    mean, deviation = observation.mean, observation.stddev
    assert mean.shape == deviation.shape == drawn.shape[1:]
    squares = (drawn - mean).square()
    assert ((drawn.mean(0) - mean).abs() < 5 * deviation / math.sqrt(k)).all()
    # heavy tails: the estimate of the standard error itself is uncertain, hence 8 of them
    assert ((squares.mean(0) - deviation**2).abs() < 8 * squares.std(0) / math.sqrt(k) + 1e-9).all()


@ALL
def test_learned_parameters_get_the_gradient_of_torchs_density(family: str) -> None:
    likelihood, outputs, x = case(family, (4,))
    outputs.requires_grad_()
    leaves = [outputs, *likelihood.parameters()]
    ours = torch.autograd.grad(likelihood(outputs).log_prob(x).sum(), leaves)
    theirs = torch.autograd.grad(torchs(likelihood, outputs).log_prob(x).sum(), leaves)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("size", [1e5, 1e6, 1e8])
def test_large_counts_have_finite_densities_and_gradients_in_single_precision(size: float) -> None:
    likelihood = NegativeBinomialLikelihood((3,))
    outputs = torch.tensor([[[math.log(size)] * 3]], requires_grad=True)
    x = torch.tensor([[0.0, size, 2 * size]])
    value = likelihood(outputs).log_prob(x)
    value.sum().backward()
    assert value.isfinite().all()
    assert outputs.grad is not None
    assert outputs.grad.isfinite().all()
    # θ = 1 is the geometric distribution, log p(x) = x log μ - (x + 1) log(1 + μ): its slope in log μ by hand
    slope = x.double() - (x.double() + 1) * size / (1 + size)
    torch.testing.assert_close(outputs.grad[0].double(), slope, rtol=1e-4, atol=1e-4)


def test_a_bernoulli_scores_intensities_by_the_cross_entropy() -> None:
    logits = torch.randn(5, 1, 3, dtype=torch.float64)
    x = torch.rand(5, 3, dtype=torch.float64)
    expected = -nn.functional.binary_cross_entropy_with_logits(logits[:, 0], x, reduction="none").sum(-1)
    torch.testing.assert_close(BernoulliLikelihood((3,))(logits).log_prob(x), expected)
    extreme = BernoulliLikelihood((1,))(torch.tensor([[[200.0]], [[-200.0]]]))
    assert extreme.log_prob(torch.tensor([[0.0], [1.0]])).tolist() == [-200, -200]


@pytest.mark.parametrize(
    ("likelihood", "right", "wrong", "message"),
    [
        (BernoulliLikelihood((1,)), [[0.0], [0.5], [1.0]], [[1.5]], r"values in \[0, 1\]"),
        (BernoulliLikelihood((1,)), [[0.0]], [[-0.1]], r"values in \[0, 1\]"),
        (NegativeBinomialLikelihood((1,)), [[0.0], [7.0]], [[0.5]], "counts 0, 1, 2"),
        (NegativeBinomialLikelihood((1,)), [[3.0]], [[-1.0]], "counts 0, 1, 2"),
        (CategoricalLikelihood((1,), 3), [[0], [2]], [[3]], "integers 0 to 2"),
        (CategoricalLikelihood((1,), 3), [[1]], [[-1]], "integers 0 to 2"),
        (CategoricalLikelihood((1,), 3), [[1]], [[1.0]], "integers 0 to 2"),
        (NormalLikelihood((1,)), [[-5.0]], None, ""),
    ],
)
def test_a_likelihood_says_which_observations_it_cannot_score(
    likelihood: Likelihood, right: list[list[float]], wrong: list[list[float]] | None, message: str
) -> None:
    assert likelihood.check(torch.tensor(right)) is None
    if wrong is not None:
        answer = likelihood.check(torch.tensor(wrong))
        assert answer is not None
        assert re.search(message, answer)


def affine(*shape: int) -> Affine:
    transform = Affine(shape, "standardize").double()
    data = torch.randn(50, *shape, dtype=torch.float64) * 3 + 10
    transform.fit(lambda: [(data, None)])
    return transform


@pytest.mark.parametrize("learn", ["no", "feature", "predicted"])
def test_a_rescaled_normal_is_the_normal_of_the_data_units(learn: Literal["no", "feature", "predicted"]) -> None:
    target = affine(4)
    likelihood = scaled(NormalLikelihood, learn)((4,))
    outputs = torch.randn(K, N, likelihood.n_outputs, 4, dtype=torch.float64)
    base = likelihood(outputs)
    rescaled = Rescaled(1, base, target)
    # if (x - l)/s ~ N(μ, σ) then x ~ N(l + s μ, s σ)
    truth = td.Normal(target.loc + target.scale * base.mean, target.scale * base.stddev)
    x = 10 + 3 * torch.randn(N, 4, dtype=torch.float64)
    mask = torch.rand(N, 4) < 0.5
    torch.testing.assert_close(rescaled.log_prob(x), truth.log_prob(x).sum(-1))
    torch.testing.assert_close(rescaled.log_prob(x, mask), (truth.log_prob(x) * mask).sum(-1))
    torch.testing.assert_close(rescaled.mean, truth.mean)
    torch.testing.assert_close(rescaled.stddev, truth.stddev)
    drawn = rescaled.sample(20_000)
    assert ((drawn.mean(0) - truth.mean).abs() < 5 * truth.stddev / math.sqrt(20_000)).all()
    assert ((drawn.std(0) / truth.stddev - 1).abs() < 5 / math.sqrt(2 * 20_000)).all()


@pytest.mark.parametrize("kind", [NormalLikelihood, LaplaceLikelihood])
def test_a_rescaled_density_integrates_to_one_in_data_units(kind: type[NormalLikelihood | LaplaceLikelihood]) -> None:
    target = affine(1)
    observation = Rescaled(1, kind((1,), scale=0.6)(torch.tensor([[[0.3]]], dtype=torch.float64)), target)
    grid = torch.linspace(-60, 80, 200_001, dtype=torch.float64)[:, None]
    density = observation.log_prob(grid).exp()
    assert float(torch.trapezoid(density, grid[:, 0])) == pytest.approx(1, abs=1e-6)


def test_a_decoder_gives_data_units_for_latents_of_any_batch_shape() -> None:
    target = affine(3)
    network = MLPDecoder(2, (3,), hidden=()).double()
    decoder = LikelihoodDecoder(network, NormalLikelihood((3,), scale=0.5), target)
    z = torch.randn(4, 6, 2, dtype=torch.float64)
    observation: Observation = decoder(z)
    loc = target.inverse(network(z.reshape(24, 2))[:, 0].view(4, 6, 3))
    torch.testing.assert_close(observation.mean, loc)
    x = torch.randn(6, 3, dtype=torch.float64) + 10
    torch.testing.assert_close(observation.log_prob(x), td.Normal(loc, 0.5 * target.scale).log_prob(x).sum(-1))
    assert decoder(torch.zeros(4, 0, 2, dtype=torch.float64)).log_prob(x[:0]).shape == (4, 0)


def test_a_networks_half_precision_is_widened_before_the_density() -> None:
    network = MLPDecoder(2, (3,), hidden=()).bfloat16()
    decoder = LikelihoodDecoder(network, NormalLikelihood((3,)))
    assert decoder(torch.zeros(1, 4, 2, dtype=torch.bfloat16)).log_prob(torch.zeros(4, 3)).dtype == torch.float32
