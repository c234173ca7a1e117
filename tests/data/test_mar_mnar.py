"""MAR depends on what is kept alone, MNAR on the own value; both have the rate that they are given."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from torch import Tensor

from mvcore.data.dataset import MultimodalDataset
from mvcore.data.missing import mar, mcar, mnar
from mvcore.errors import DataError

Mechanism = Callable[..., MultimodalDataset]
both = pytest.mark.parametrize("mechanism", [mar, mnar])


def correlated(n: int = 20_000, M: int = 2) -> MultimodalDataset:
    """Skewed values with correlation, so that one depends on the other unless it is conditioned on."""
    rng = np.random.default_rng(0)
    common = rng.normal(size=n)
    return MultimodalDataset({f"m{i}": np.exp(0.4 * (common + rng.normal(size=n)))[:, None] for i in range(M)})


def standardised(data: MultimodalDataset, name: str) -> Tensor:
    x = data.dense(name)[0][:, 0].double()
    return (x - x.mean()) / x.std(unbiased=False)


def chance(s: Tensor, mean: float, strength: float) -> Tensor:
    """σ(c + strength · s) with the given mean, the c found anew."""
    c: float = brentq(lambda c: float((c + strength * s).sigmoid().mean()) - mean, -50, 50)
    return (c + strength * s).sigmoid()


def t_statistic(residual: Tensor, weight: Tensor) -> float:
    product = residual * weight
    return float(product.mean() / (product.std() / len(product) ** 0.5))


@both
@pytest.mark.parametrize("rate", [0.1, 0.3, 0.45])
def test_the_rate_is_that_of_each_modality_and_every_row_keeps_one(mechanism: Mechanism, rate: float) -> None:
    data = correlated(M=2)
    hidden = ~mechanism(data, rate, seed=1).observed
    assert bool((~hidden).any(1).all())
    error = (rate * (1 - rate) / len(data)) ** 0.5
    assert ((hidden.double().mean(0) - rate).abs() < 4.5 * error).all()


@both
def test_no_modality_of_five_is_privileged(mechanism: Mechanism) -> None:
    data = correlated(M=5)
    share = (~mechanism(data, 0.5, seed=2).observed).double().mean(0)
    assert (share - 0.5).abs().max() < 4.5 * (0.25 / len(data)) ** 0.5


def test_mar_hides_by_what_is_kept_and_given_that_not_by_its_own_value() -> None:
    data = correlated()
    hidden = (~mar(data, 0.3, strength=2.0, seed=3).observed).double()
    for own, other in [(0, 1), (1, 0)]:
        kept = standardised(data, f"m{other}")
        expected = 0.5 * chance(kept, 0.6, 2.0)  # the other is the anchor in half of the rows
        residual = hidden[:, own] - expected
        assert abs(t_statistic(residual, torch.ones_like(residual))) < 4.5
        assert abs(t_statistic(residual, standardised(data, f"m{own}"))) < 4.5
        assert t_statistic(hidden[:, own] - 0.3, kept) > 20  # greater kept values hide more often


def test_mnar_hides_by_its_own_value_and_given_that_not_by_another() -> None:
    data = correlated()
    hidden = (~mnar(data, 0.3, strength=2.0, seed=3).observed).double()
    for own, other in [(0, 1), (1, 0)]:
        value = standardised(data, f"m{own}")
        residual = hidden[:, own] - 0.5 * chance(value, 0.6, 2.0)
        assert abs(t_statistic(residual, torch.ones_like(residual))) < 4.5
        assert abs(t_statistic(residual, standardised(data, f"m{other}"))) < 4.5
        assert t_statistic(hidden[:, own] - 0.3, value) > 20


@both
def test_a_negative_strength_turns_the_dependence_and_none_is_no_dependence(mechanism: Mechanism) -> None:
    data = correlated()
    i, name = (0, "m0") if mechanism is mnar else (0, "m1")
    weight = standardised(data, name)
    for strength, low, high in [(-2.0, -1e9, -20.0), (0.0, -4.5, 4.5)]:
        hidden = (~mechanism(data, 0.3, strength=strength, seed=4).observed).double()[:, i]
        assert low < t_statistic(hidden - 0.3, weight) < high


@both
def test_partial_rows_with_gaps_lose_observed_modalities_alone(mechanism: Mechanism) -> None:
    n = 3000
    rng = np.random.default_rng(1)
    kind = np.arange(n) % 3
    arrays = {m: rng.normal(size=(n, 3)) for m in "abc"}
    cells = rng.random((n, 3)) < 0.7
    arrays["b"][~cells] = np.nan
    arrays["c"][kind == 0] = np.nan
    data = MultimodalDataset(arrays, {"c": kind > 0}, cells={"b": cells})
    found = mechanism(data, 0.4, seed=5)
    assert not bool((found.observed & ~data.observed).any())
    assert bool(found.observed.any(1).all())
    total = int(data.observed.sum())
    assert abs(float((data.observed & ~found.observed).sum()) / total - 0.4) < 4.5 * (0.24 / total) ** 0.5
    assert torch.equal(found.observed, mechanism(data, 0.4, seed=5).observed)
    assert not torch.equal(found.observed, mechanism(data, 0.4, seed=6).observed)


@both
def test_what_no_row_can_lose_is_refused_and_a_constant_modality_is_not(mechanism: Mechanism) -> None:
    data = correlated(100)
    for rate in (-0.1, 0.5, float("nan")):
        with pytest.raises(DataError, match=r"at least 0 and less than 0\.5, for every row keeps one"):
            mechanism(data, rate, seed=0)
    assert bool(mechanism(data, 0.0, seed=0).observed.all())
    constant = MultimodalDataset({m: np.full((4000, 2), 3.0) for m in "ab"})
    state = torch.get_rng_state()
    share = (~mechanism(constant, 0.3, seed=0).observed).double().mean()
    assert torch.equal(torch.get_rng_state(), state)
    assert abs(float(share) - 0.3) < 4.5 * (0.21 / 4000) ** 0.5
    assert mcar(constant, 0.3, seed=0).schema == constant.schema
