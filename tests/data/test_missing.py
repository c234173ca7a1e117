"""MCAR: independent draws given that something is left, for every row and every modality alike."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from mvcore.data.dataset import MultimodalDataset
from mvcore.data.missing import mcar
from mvcore.errors import DataError

#: Quantiles 1 - 1e-4 of the chi-square distribution by degrees of freedom, from tables.
CRITICAL = {2: 18.42, 6: 27.86}


def complete(n: int, M: int) -> MultimodalDataset:
    return MultimodalDataset({f"m{i}": np.arange(n, dtype=np.float32)[:, None] for i in range(M)})


def exact(observed: tuple[str, ...], rate: float) -> dict[tuple[str, ...], float]:
    """Probability of each non-empty subset under independent draws given that it is not empty."""
    size = len(observed)
    subsets = [s for k in range(1, size + 1) for s in itertools.combinations(observed, k)]
    return {s: (1 - rate) ** len(s) * rate ** (size - len(s)) / (1 - rate**size) for s in subsets}


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("M", [2, 3])
def test_patterns_have_the_probabilities_of_independent_draws_given_that_something_is_left(M: int, rate: float) -> None:
    n = 20_000
    data = mcar(complete(n, M), rate, seed=5)
    assert bool(data.observed.any(1).all())
    expected = exact(data.schema.names, rate)
    counts = data.patterns()
    assert set(counts) <= set(expected)
    chi_square = sum((counts.get(s, 0) - n * p) ** 2 / (n * p) for s, p in expected.items())
    assert chi_square < CRITICAL[len(expected) - 1]


@pytest.mark.parametrize("rate", [0.3, 0.7])
def test_no_modality_is_privileged(rate: float) -> None:
    n, M = 20_000, 5
    kept = mcar(complete(n, M), rate, seed=2).observed.double().mean(0)
    share = (1 - rate) / (1 - rate**M)  # of each modality, given that something is left
    error = math.sqrt(share * (1 - share) / n)
    assert float((kept - share).abs().max()) < 4.5 * error


def test_what_is_partial_already_loses_observed_modalities_alone_by_the_same_law() -> None:
    n, rate = 30_000, 0.4
    kind = np.arange(n) % 3  # a third of the rows each: only a; a and b; a, b and c
    arrays = {m: np.arange(n, dtype=np.float32)[:, None] for m in "abc"}
    data = MultimodalDataset(arrays, {"b": kind >= 1, "c": kind == 2})
    hidden = mcar(data, rate, seed=11)
    assert not bool((hidden.observed & ~data.observed).any())
    assert hidden.select(kind == 0).patterns() == {("a",): n // 3}
    for which, names in [(1, ("a", "b")), (2, ("a", "b", "c"))]:
        counts, expected = hidden.select(kind == which).patterns(), exact(names, rate)
        chi_square = sum((counts.get(s, 0) - n / 3 * p) ** 2 / (n / 3 * p) for s, p in expected.items())
        assert chi_square < CRITICAL[len(expected) - 1]
    for m in "abc":  # what is left is where it was
        full, have = hidden.dense(m)
        assert torch.equal(full[have, 0], torch.arange(n, dtype=torch.float32)[have])


def test_the_seed_decides_the_mask_and_the_global_state_neither_matters_nor_moves() -> None:
    data = complete(500, 3)
    first = mcar(data, 0.5, seed=7).observed
    torch.manual_seed(99)
    state = torch.get_rng_state()
    assert torch.equal(mcar(data, 0.5, seed=7).observed, first)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(mcar(data, 0.5, seed=8).observed, first)


def test_rate_zero_hides_nothing_and_other_rates_are_refused() -> None:
    data = complete(50, 2)
    assert bool(mcar(data, 0.0, seed=0).observed.all())
    for rate in (-0.1, 1.0, 2.0, float("nan")):
        with pytest.raises(DataError, match=r"in \[0, 1\)"):
            mcar(data, rate, seed=0)
