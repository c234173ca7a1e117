"""Diagonal normal and Laplace against torch.distributions, and their noise by its moments."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Laplace, Normal, kl_divergence

from mvcore.distributions.diagonal import Diagonal, DiagonalLaplace, DiagonalNormal, full

FAMILIES = pytest.mark.parametrize(
    ("family", "reference"), [(DiagonalNormal, Normal), (DiagonalLaplace, Laplace)], ids=["normal", "laplace"]
)


def draw(family: type[Diagonal], *shape: int) -> Diagonal:
    return family(torch.randn(*shape, dtype=torch.float64), torch.randn(*shape, dtype=torch.float64))


@FAMILIES
def test_log_prob_is_that_of_torch_summed_over_the_dimensions(
    family: type[Diagonal], reference: type[Normal | Laplace]
) -> None:
    q = draw(family, 5, 3)
    z = 3 * torch.randn(7, 5, 3, dtype=torch.float64)
    expected = reference(q.loc, q.log_scale.exp()).log_prob(z).sum(-1)
    torch.testing.assert_close(q.log_prob(z), expected)


@FAMILIES
def test_kl_is_that_of_torch_and_zero_to_itself(family: type[Diagonal], reference: type[Normal | Laplace]) -> None:
    q, p = draw(family, 5, 3), draw(family, 1, 3)
    expected = kl_divergence(reference(q.loc, q.scale), reference(p.loc, p.scale)).sum(-1)
    torch.testing.assert_close(q.kl(p), expected)
    torch.testing.assert_close(q.kl(q), torch.zeros(5, dtype=torch.float64))


@FAMILIES
def test_the_shortcut_to_the_standard_prior_is_the_same_divergence(
    family: type[Diagonal], reference: type[Normal | Laplace]
) -> None:
    q = draw(family, 5, 3)
    unit = family.unit(3, like=q.loc)
    assert unit.standard
    expected = kl_divergence(reference(q.loc, q.scale), reference(0.0, 1.0)).sum(-1)
    torch.testing.assert_close(q.kl(unit), expected)
    torch.testing.assert_close(q.kl(family(unit.loc, unit.log_scale)), expected)


def test_the_laplace_divergence_by_hand() -> None:
    # Lap(1, 1/2) from Lap(0, 2): log(2 / ½) + 1/2 + (½/2) e^(-1 / ½) - 1
    q = DiagonalLaplace(torch.tensor([1.0]), torch.tensor([math.log(0.5)]))
    p = DiagonalLaplace(torch.tensor([0.0]), torch.tensor([math.log(2.0)]))
    assert float(q.kl(p)) == pytest.approx(math.log(4) + 0.5 + 0.25 * math.exp(-2) - 1)


@pytest.mark.parametrize(
    ("family", "variance", "fourth"),
    [(DiagonalNormal, 1.0, 3.0), (DiagonalLaplace, 2.0, 24.0)],  # E x⁴: 3 and 4! = 24
    ids=["normal", "laplace"],
)
def test_noise_has_the_moments_of_the_standard_member(family: type[Diagonal], variance: float, fourth: float) -> None:
    n = 200_000
    q = family.unit(2, like=torch.zeros(1, dtype=torch.float64))
    x = q.rsample(n)
    assert x.shape == (n, 2)
    eighth = {3.0: 105.0, 24.0: 40320.0}[fourth]  # E x⁸: 7!! and 8!, for the standard error of the mean of x⁴
    for power, moment, square in [(1, 0.0, variance), (2, variance, fourth), (3, 0.0, None), (4, fourth, eighth)]:
        spread = square if square is not None else {1.0: 15.0, 2.0: 720.0}[variance]  # E x⁶: 5!! and 6!
        error = math.sqrt((spread - moment**2) / n)
        assert float((x.pow(power).mean(0) - moment).abs().max()) < 4.5 * error, power
    correlation = (x[:, 0] * x[:, 1]).mean() / variance
    assert abs(float(correlation)) < 4.5 / math.sqrt(n)


@FAMILIES
def test_draws_move_with_loc_and_scale(family: type[Diagonal], reference: type[Normal | Laplace]) -> None:
    loc = torch.tensor([2.0], requires_grad=True)
    log_scale = torch.tensor([0.5], requires_grad=True)
    torch.manual_seed(1)
    z = family(loc, log_scale).rsample(3)
    torch.manual_seed(1)
    noise = family.unit(1).rsample(3)
    torch.testing.assert_close(z, 2 + math.exp(0.5) * noise)
    z.sum().backward()
    assert float(loc.grad) == pytest.approx(3)  # type: ignore[arg-type]
    assert float(log_scale.grad) == pytest.approx(float(math.exp(0.5) * noise.sum()), rel=1e-5)  # type: ignore[arg-type]


@FAMILIES
def test_indexing_takes_the_same_rows_of_both_parameters(
    family: type[Diagonal], reference: type[Normal | Laplace]
) -> None:
    q = draw(family, 4, 3)
    index = torch.tensor([2, 0, 2])
    for part in (q[index], q.take(index)):
        assert torch.equal(part.loc, q.loc[[2, 0, 2]])
        assert torch.equal(part.log_scale, q.log_scale[[2, 0, 2]])
    other = draw(family, 2, 3)
    mixed = q.replaced(torch.tensor([3, 1]), other)
    assert torch.equal(mixed.loc[[3, 1, 0, 2]], torch.cat([other.loc, q.loc[[0, 2]]]))
    assert torch.equal(mixed.log_scale[[3, 1, 0, 2]], torch.cat([other.log_scale, q.log_scale[[0, 2]]]))


@FAMILIES
def test_a_distribution_of_no_rows(family: type[Diagonal], reference: type[Normal | Laplace]) -> None:
    q = family.unit(0, 3)
    assert q.rsample(2).shape == (2, 0, 3)
    assert q.log_prob(torch.zeros(2, 0, 3)).shape == (2, 0)
    assert q.kl(family.unit(3)).shape == (0,)


def test_half_precision_is_widened_and_nothing_else() -> None:
    assert full(torch.zeros(1, dtype=torch.bfloat16)).dtype == torch.float32
    assert full(torch.zeros(1, dtype=torch.float16)).dtype == torch.float32
    assert full(torch.zeros(1, dtype=torch.float64)).dtype == torch.float64
