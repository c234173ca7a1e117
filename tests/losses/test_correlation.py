"""The multiset canonical correlation: beside classical CCA and GCCA by numpy, and what it promises on partial rows."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor

from mvcore.data import Batch
from mvcore.errors import DataError
from mvcore.losses import check_pairs, multiset_correlation
from mvcore.testing import all_patterns

RIDGE = 1e-12  # none, but for rounding


def correlated(n: int, sizes: dict[str, int], seed: int = 0) -> dict[str, np.ndarray]:
    """Tables that share two variables, each with its own noise."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 2))
    return {m: z @ rng.normal(size=(2, d)) + rng.normal(size=(n, d)) for m, d in sizes.items()}


def complete(tables: dict[str, np.ndarray]) -> Batch:
    return Batch.from_dense({m: torch.from_numpy(x) for m, x in tables.items()})


def partial(tables: dict[str, np.ndarray], seed: int = 1) -> Batch:
    """Each table lacks about a third of the rows; every row has one."""
    rng, n = np.random.default_rng(seed), len(next(iter(tables.values())))
    have = {m: torch.from_numpy(rng.random(n) < 0.67) for m in tables}
    first = next(iter(have))
    have[first] |= ~torch.stack(list(have.values())).any(0)
    return Batch.from_dense({m: torch.from_numpy(x) for m, x in tables.items()}, have)


def canonical_correlations(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Those of classical CCA: the singular values between orthonormal bases of the centred columns."""
    q = [np.linalg.qr(t - t.mean(0))[0] for t in (x, y)]
    return np.linalg.svd(q[0].T @ q[1], compute_uv=False)


def inverse_root(S: np.ndarray) -> np.ndarray:
    values, U = np.linalg.eigh(S)
    return (U / np.sqrt(values)) @ U.T


def multiset(tables: list[np.ndarray], top: int) -> float:
    """GCCA (MAXVAR): Σ of the greatest generalised eigenvalues ρ of C v = ρ D v as (ρ − 1) / (M − 1)."""
    whole = np.cov(np.concatenate(tables, 1).T, bias=True)
    within, start = np.zeros_like(whole), 0
    for t in tables:
        stop = start + t.shape[1]
        within[start:stop, start:stop] = whole[start:stop, start:stop]
        start = stop
    root = inverse_root(within)
    values = np.sort(np.linalg.eigvalsh(root @ whole @ root))[::-1]
    return float((values[:top] - 1).sum() / (len(tables) - 1))


def of(batch: Batch, ridge: float = RIDGE) -> Tensor:
    """Of the observations as their own codes."""
    return multiset_correlation(batch.x, batch, ridge=ridge)


# Complete rows: the classical answers


def test_of_two_complete_views_it_is_the_sum_of_their_canonical_correlations() -> None:
    tables = correlated(60, {"a": 3, "b": 3})
    expected = canonical_correlations(tables["a"], tables["b"]).sum()
    assert float(of(complete(tables))) == pytest.approx(expected, abs=1e-8)


def test_of_three_complete_views_it_is_that_of_the_generalised_eigenvalues() -> None:
    tables = correlated(60, {"a": 3, "b": 3, "c": 3})
    expected = multiset(list(tables.values()), top=3)
    assert float(of(complete(tables))) == pytest.approx(expected, abs=1e-8)


def test_the_ridge_is_added_to_the_covariances_within() -> None:
    """The regularised CCA of Wang et al. (2015): singular values of (S_x + rI)^-½ S_xy (S_y + rI)^-½."""
    tables, r = correlated(40, {"a": 3, "b": 3}), 0.3
    x, y = (t - t.mean(0) for t in tables.values())
    roots = [inverse_root(t.T @ t / 40 + r * np.eye(3)) for t in (x, y)]
    expected = np.linalg.svd(roots[0] @ (x.T @ y / 40) @ roots[1], compute_uv=False).sum()
    assert float(of(complete(tables), r)) == pytest.approx(expected, abs=1e-10)


def best_linear(tables: dict[str, np.ndarray], D: int) -> tuple[float, float]:
    """The correlation of random linear encoders, and of the best that a quasi-Newton search finds."""
    torch.manual_seed(0)
    batch = complete(tables)
    maps = {m: torch.randn(x.shape[1], D, dtype=torch.float64, requires_grad=True) for m, x in batch.x.items()}
    search = torch.optim.LBFGS(maps.values(), max_iter=400, line_search_fn="strong_wolfe", tolerance_grad=1e-10)

    def value() -> Tensor:
        return multiset_correlation({m: x @ maps[m] for m, x in batch.x.items()}, batch, ridge=RIDGE)

    def closure() -> Tensor:
        search.zero_grad()
        loss = -value()
        loss.backward()
        return loss

    before = float(value().detach())
    search.step(closure)
    return before, float(value().detach())


def test_linear_encoders_of_two_views_reach_classical_cca_and_no_more() -> None:
    tables = correlated(80, {"a": 5, "b": 6})
    expected = canonical_correlations(tables["a"], tables["b"])[:2].sum()
    before, after = best_linear(tables, 2)
    assert before < expected - 0.05
    assert after == pytest.approx(expected, abs=1e-5)


def test_linear_encoders_of_three_views_reach_classical_gcca_and_no_more() -> None:
    tables = correlated(80, {"a": 5, "b": 6, "c": 4})
    expected = multiset(list(tables.values()), top=2)
    before, after = best_linear(tables, 2)
    assert before < expected - 0.05
    assert after == pytest.approx(expected, abs=1e-5)


# Partial rows


def test_rows_without_both_of_two_views_change_nothing() -> None:
    """Also where the covariances of all rows with a view are other than those of the rows with both."""
    batch = partial(correlated(90, {"a": 3, "b": 3}))
    both = batch.select(batch.observed.all(1))
    expected = canonical_correlations(*(x.numpy() for x in both.x.values())).sum()
    assert float(of(batch)) == pytest.approx(expected, abs=1e-8)
    assert float(of(batch, 0.1)) == pytest.approx(float(of(both, 0.1)), abs=1e-8)


def test_each_pair_of_views_is_estimated_from_the_rows_that_have_both() -> None:
    """A loop: bases by all rows of a view, then each pair whitened by its own rows, in these bases."""
    batch, r, names = partial(correlated(120, {"a": 2, "b": 2, "c": 2})), 0.05, ["a", "b", "c"]
    x = {m: dict(zip(batch.rows(m).tolist(), batch.x[m].numpy(), strict=True)) for m in names}
    base = {}
    for m in names:
        own = np.stack(list(x[m].values()))
        base[m] = inverse_root(np.cov(own.T, bias=True) + r * np.eye(2))
    R = np.eye(6)
    for i, j in combinations(range(3), 2):
        rows = sorted(set(x[names[i]]) & set(x[names[j]]))
        left, right = (np.stack([x[names[k]][row] for row in rows]) for k in (i, j))
        left, right = left - left.mean(0), right - right.mean(0)
        n, (P, Q) = len(rows), (base[names[i]], base[names[j]])
        roots = [inverse_root(B @ (t.T @ t / n + r * np.eye(2)) @ B) for B, t in ((P, left), (Q, right))]
        T = roots[0] @ P @ (left.T @ right / n) @ Q @ roots[1]
        R[2 * i : 2 * i + 2, 2 * j : 2 * j + 2], R[2 * j : 2 * j + 2, 2 * i : 2 * i + 2] = T, T.T
    expected = (np.sort(np.linalg.eigvalsh(R))[::-1][:2] - 1).sum() / 2
    assert float(of(batch, r)) == pytest.approx(expected, abs=1e-10)


def test_invertible_affine_maps_of_the_codes_change_nothing() -> None:
    batch = partial(correlated(120, {"a": 3, "b": 3, "c": 3}))
    torch.manual_seed(3)
    moved = {m: x @ torch.randn(3, 3, dtype=torch.float64) + torch.randn(3) for m, x in batch.x.items()}
    assert float(multiset_correlation(moved, batch, ridge=RIDGE)) == pytest.approx(float(of(batch)), abs=1e-6)


def test_the_order_of_views_and_rows_changes_nothing() -> None:
    batch = partial(correlated(60, {"a": 2, "b": 2, "c": 2}))
    turned = Batch({m: batch.x[m] for m in ("c", "a", "b")}, batch.observed[:, [2, 0, 1]])
    for other in (turned, batch.select(torch.randperm(60))):
        torch.testing.assert_close(of(other), of(batch))


@pytest.mark.parametrize("seed", range(5))
def test_it_lies_within_the_dimensions_however_few_the_rows(seed: int) -> None:
    """|(ρ − 1) / (M − 1)| ≤ 1: each pair's whitened block is a contraction, whichever rows it has."""
    torch.manual_seed(seed)
    observed = all_patterns(4).repeat(2, 1)
    batch = Batch(
        {m: 3 * torch.randn(int(n), 2).double() for m, n in zip("abcd", observed.sum(0), strict=True)}, observed
    )
    assert -2 <= float(of(batch, 1e-9)) <= 2


@pytest.mark.parametrize("views", ["ab", "abc"])
def test_equal_codes_are_as_correlated_as_can_be(views: str) -> None:
    """Of two views on partial rows too; of three the bases of their pairs then differ by little."""
    x = torch.randn(50, 3, dtype=torch.float64)
    assert float(of(Batch.from_dense(dict.fromkeys(views, x)))) == pytest.approx(3, abs=1e-8)
    observed = all_patterns(len(views)).repeat(17, 1)[:50]
    batch = Batch({m: x[observed[:, i]] for i, m in enumerate(views)}, observed)
    assert float(of(batch)) == pytest.approx(3, abs=1e-8 if views == "ab" else 1e-3)


def test_a_pair_with_too_few_rows_to_tell_is_left_out() -> None:
    """D + 1 rows span everything: their correlations are 1, whatever the codes. D + 2 rows do not."""
    x = torch.randn(40, 3, dtype=torch.float64)
    masks = {"a": torch.arange(40) < 20, "b": torch.arange(40) < 38, "c": torch.arange(40) >= 16}
    codes = {"a": x, "b": torch.randn(40, 3).double(), "c": torch.randn(40, 3).double()}
    batch = Batch.from_dense(codes, masks)  # a and c share 4 rows = D + 1
    alone = canonical_correlations(codes["a"][16:20].numpy(), codes["c"][16:20].numpy())
    assert alone == pytest.approx([1, 1, 1])
    moved = Batch.from_dense({**codes, "a": x.where((torch.arange(40) < 16)[:, None], x.flip(1))}, masks)
    assert of(batch).isfinite()
    for one in (batch, moved):
        pairs = of(one.only(["a", "b"])), of(one.only(["b", "c"]))
        assert all(0 < float(pair) < 3 for pair in pairs)
        assert float(of(one.only(["a", "c"]))) == 0


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_of_no_or_few_rows_it_is_zero_with_a_gradient_of_zero(rows: int) -> None:
    x = {m: torch.randn(rows, 2, dtype=torch.float64, requires_grad=True) for m in "ab"}
    value = multiset_correlation(x, Batch(x, torch.ones(rows, 2, dtype=torch.bool)))
    value.backward()
    assert float(value.detach()) == 0
    assert all(v.grad is not None and not v.grad.any() for v in x.values())


def test_gradients_are_those_of_differences_also_where_the_codes_are_white() -> None:
    """White codes have equal eigenvalues within, at which a gradient through eigenvectors is not finite."""
    batch = partial(correlated(30, {"a": 2, "b": 2, "c": 2}))
    white = {}
    for m, x in batch.x.items():
        centred = x - x.mean(0)
        white[m] = (torch.linalg.qr(centred)[0] * len(x) ** 0.5).requires_grad_()
    complete_rows = complete(correlated(30, {"a": 2, "b": 2}))
    both = {m: (torch.linalg.qr(x - x.mean(0))[0] * 30**0.5).requires_grad_() for m, x in complete_rows.x.items()}
    for codes, rows in ((white, batch), (both, complete_rows)):
        names = list(codes)

        def value(*z: Tensor, names: list[str] = names, rows: Batch = rows) -> Tensor:
            return multiset_correlation(dict(zip(names, z, strict=True)), rows, ridge=1e-3)

        assert torch.autograd.gradcheck(value, tuple(codes.values()))


def test_rows_that_correlate_nothing_are_refused_and_what_few_rows_leave_out_is_said() -> None:
    """With D = 2 a pair needs 4 rows."""
    names, observed = ("a", "b", "c"), torch.eye(3, dtype=torch.bool).repeat(9, 1)
    with pytest.raises(DataError, match=r"No two of a, b, c are together in more than 3 of 27 rows"):
        check_pairs(observed, names, 2)
    observed[:4, 0] = observed[:4, 1] = True
    with pytest.warns(UserWarning, match=r"'c' is with no other modality in more than 3 of 27 rows"):
        check_pairs(observed, names, 2)
    check_pairs(all_patterns(3).repeat(2, 1), names, 2)


def test_half_precision_is_not_taken_at_its_word() -> None:
    tables = correlated(60, {"a": 3, "b": 3})
    batch = Batch.from_dense({m: torch.from_numpy(x).float() for m, x in tables.items()})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert float(of(batch, 1e-6)) == pytest.approx(float(of(complete(tables), 1e-6)), abs=1e-5)
