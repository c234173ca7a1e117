"""Positive and bounded numbers: densities in data units, moments, supports and masks of what a curve makes normal."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, distributions as td

from mvcore.data.transforms import Affine, Bent, target_of
from mvcore.errors import DataError
from mvcore.likelihoods import (
    LaplaceLikelihood,
    Likelihood,
    LikelihoodDecoder,
    LogNormalLikelihood,
    NormalLikelihood,
    Observation,
)
from mvcore.nn import MLPDecoder

NAMES = ["log", "log1p", "logit(0, 9)"]
LEARN = pytest.mark.parametrize("learn", ["no", "feature", "predicted"])


def bent(name: str, x: Tensor) -> Bent:
    target = target_of(x.shape[1:], name)
    assert isinstance(target, Bent)
    target.double().fit(lambda: [(x, None)])
    return target


def standard(name: str) -> str:
    return name.replace("logit(", "logit_standardize(") if "(" in name else f"{name}_standardize"


def law(name: str, loc: Tensor, scale: Tensor) -> td.Distribution:
    """What torch says of a value whose curve is normal."""
    parts: dict[str, list[Any]] = {
        "log": [td.ExpTransform()],
        "log1p": [td.ExpTransform(), td.AffineTransform(-1.0, 1.0)],
        "logit(0, 9)": [td.SigmoidTransform(), td.AffineTransform(0.0, 9.0)],
    }
    return td.TransformedDistribution(td.Normal(loc, scale), parts[name], validate_args=False)


@LEARN
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("standardised", [False, True])
def test_log_densities_are_torchs_in_data_units(name: str, standardised: bool, learn: Any) -> None:
    likelihood = NormalLikelihood((4,), scale=0.6, learn=learn).double()
    outputs = torch.randn(3, 5, likelihood.n_outputs, 4, dtype=torch.float64)
    base: Any = likelihood(outputs)
    train = law(name, torch.tensor(0.7).double(), torch.tensor(0.9).double()).sample((50, 4))
    target = bent(standard(name) if standardised else name, train)
    shift, factor = (target.affine.loc, target.affine.scale) if target.affine is not None else (0.0, 1.0)
    truth = law(name, shift + factor * base.loc, factor * base.scale)
    x = truth.sample()[0]
    observation = base.in_data_units(target)
    torch.testing.assert_close(observation.values_log_prob(x), truth.log_prob(x))
    torch.testing.assert_close(observation.log_prob(x), truth.log_prob(x).sum(-1))
    mask = torch.rand(x.shape) < 0.5
    torch.testing.assert_close(observation.log_prob(x, mask), (truth.log_prob(x) * mask).sum(-1))


@LEARN
def test_the_log_normal_is_torchs_and_on_standardised_logarithms_that_of_the_logarithms(learn: Any) -> None:
    likelihood = LogNormalLikelihood((4,), scale=0.6, learn=learn).double()
    outputs = torch.randn(3, 5, likelihood.n_outputs, 4, dtype=torch.float64)
    observation, normal = likelihood(outputs), NormalLikelihood((4,), scale=0.6, learn=learn).double()(outputs)
    truth = td.LogNormal(normal.mean, normal.stddev)
    x = truth.sample()[0]
    torch.testing.assert_close(observation.log_prob(x), truth.log_prob(x).sum(-1))
    torch.testing.assert_close(observation.mean, truth.mean)
    torch.testing.assert_close(observation.stddev, truth.stddev)
    target = bent("log_standardize", x)
    torch.testing.assert_close(observation.in_data_units(target).log_prob(x), normal.in_data_units(target).log_prob(x))


@pytest.mark.parametrize("name", NAMES)
def test_moments_are_those_of_the_samples_all_of_which_lie_in_the_support(name: str) -> None:
    target = bent(standard(name), law(name, torch.tensor(0.3).double(), torch.tensor(0.5).double()).sample((80, 2)))
    observation = NormalLikelihood((2,), scale=0.8)(torch.randn(2, 1, 2, dtype=torch.float64)).in_data_units(target)
    drawn = observation.sample(40_000)
    assert bool(target.curve.holds(drawn).all())
    error = 5 * drawn.std(0) / math.sqrt(len(drawn))
    assert bool(((drawn.mean(0) - observation.mean).abs() < error).all())
    torch.testing.assert_close(drawn.std(0), observation.stddev, rtol=0.05, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_a_density_integrates_to_one_over_the_support_and_is_0_outside(name: str) -> None:
    target = bent(name, torch.ones(2, 1).double())
    observation = NormalLikelihood((1,), scale=0.5)(torch.tensor([[[0.3]]]).double()).in_data_units(target)
    low, high = target.curve.low, min(target.curve.high, 60.0)
    grid = torch.linspace(low, high, 400_001, dtype=torch.float64)[1:-1, None]
    density = observation.log_prob(grid).exp()
    assert float(torch.trapezoid(density, grid[:, 0])) == pytest.approx(1, abs=1e-6)
    outside = torch.tensor([[low], [low - 1], [target.curve.high + 1]], dtype=torch.float64)
    assert observation.log_prob(outside)[: 3 if math.isfinite(high) else 2].tolist()[:2] == [-math.inf, -math.inf]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("behind", [-1e30, 0.0, math.nan, math.inf])
def test_what_stands_in_an_unknown_cell_changes_no_density_and_no_gradient(name: str, behind: float) -> None:
    target, found = bent(name, torch.ones(2, 3).double()), []
    for value in (1.0, behind):
        outputs = torch.full((1, 1, 3), 0.2, dtype=torch.float64, requires_grad=True)
        x = torch.tensor([[1.0, value, 2.0]], dtype=torch.float64)
        score = NormalLikelihood((3,))(outputs).in_data_units(target).log_prob(x, torch.tensor([[True, False, True]]))
        score.sum().backward()
        assert outputs.grad is not None
        found.append((score.detach(), outputs.grad))
    for one, other in zip(*found, strict=True):
        assert bool(one.isfinite().all())
        assert torch.equal(one, other)


def test_a_change_of_units_changes_a_density_by_its_jacobian_alone() -> None:
    """Of y = c x, log p(y) = log p(x) − D log c: what the logarithms are standardised by takes the rest away."""
    outputs, x = torch.randn(6, 1, 3, dtype=torch.float64), torch.rand(6, 3, dtype=torch.float64) + 0.1
    scores = []
    for c in (1.0, 1e-9, 1e6):
        target = bent("log_standardize", c * x)
        scores.append(LogNormalLikelihood((3,), scale=0.4)(outputs).in_data_units(target).log_prob(c * x))
        scores[-1] = scores[-1] + 3 * math.log(c)
    torch.testing.assert_close(scores[1], scores[0])
    torch.testing.assert_close(scores[2], scores[0])


def test_only_likelihoods_whose_mean_is_known_take_a_curve() -> None:
    log, logit = bent("log", torch.ones(2, 3)), bent("logit(0, 2)", torch.ones(2, 3))
    pairs: list[tuple[Likelihood, Bent]] = [(LaplaceLikelihood((3,)), log), (LogNormalLikelihood((3,)), logit)]
    for likelihood, target in pairs:
        decoder = LikelihoodDecoder(MLPDecoder(2, (3,), hidden=()), likelihood, target)
        with pytest.raises(DataError, match="mean is known"):
            decoder(torch.zeros(4, 2))


def test_the_log_normal_says_which_values_it_cannot_score() -> None:
    likelihood = LogNormalLikelihood((2,))
    assert likelihood.check(torch.tensor([[1e-30, 5.0]])) is None
    for bad in (0.0, -0.3):
        assert "above 0" in str(likelihood.check(torch.tensor([[1.0, bad]])))


def test_an_affine_target_over_a_log_normal_has_its_jacobian() -> None:
    affine = Affine((1,), "minmax").double()
    affine.fit(lambda: [(torch.tensor([[2.0], [6.0]]).double(), None)])
    observation: Observation = LogNormalLikelihood((1,))(torch.zeros(1, 1, 1).double()).in_data_units(affine)
    grid = torch.linspace(2, 400, 400_001, dtype=torch.float64)[1:, None]  # (x − 2) / 4 is log-normal
    assert float(torch.trapezoid(observation.log_prob(grid).exp(), grid[:, 0])) == pytest.approx(1, abs=1e-4)
