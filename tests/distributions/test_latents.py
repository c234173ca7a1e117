"""``Latents``: expectations over pairs, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from mvcore.distributions.latents import Latents

# Three rows; row 0 has pairs 0 and 2 with shares ¼ and ¾, row 1 has pair 3, row 2 has pair 1. Two draws each.
ROWS = torch.tensor([0, 2, 0, 1])
SHARES = torch.tensor([0.25, 1.0, 0.75, 1.0])
VALUES = torch.tensor([[1.0, 2.0, 3.0, 4.0], [3.0, 6.0, 5.0, 8.0]])


@pytest.fixture
def latents() -> Latents:
    return Latents({"shared": torch.randn(2, 4, 3)}, 3, rows=ROWS, log_weight=SHARES.log())


def test_the_mean_weights_the_pairs_of_a_row_by_their_shares(latents: Latents) -> None:
    # row 0: ¼ · (1 + 3)/2 + ¾ · (3 + 5)/2 = 3.5; row 1: (4 + 8)/2; row 2: (2 + 6)/2
    assert latents.mean(VALUES).tolist() == pytest.approx([3.5, 6, 4])


def test_the_sum_adds_draws_and_pairs_of_a_row(latents: Latents) -> None:
    assert latents.sum(VALUES).tolist() == pytest.approx([1 + 3 + 3 + 5, 12, 8])


def test_log_mean_exp_is_the_logarithm_of_the_mean_of_the_exponential(latents: Latents) -> None:
    expected = latents.mean(VALUES.exp()).log()
    torch.testing.assert_close(latents.log_mean_exp(VALUES), expected)
    # far beyond the range of exp, and by hand: log(¼ · e^a + ¾ · e^b)
    big = latents.log_mean_exp(VALUES * 0 + torch.tensor([1000.0, -1000.0, 1001.0, 0.0]))
    assert float(big[0]) == pytest.approx(1000 + math.log(0.25 + 0.75 * math.e))
    assert big[1:].tolist() == pytest.approx([0, -1000])


def test_a_draw_of_weight_zero_counts_as_zero(latents: Latents) -> None:
    values = VALUES.clone()
    values[:, 0] = -math.inf
    values[0, 2] = -math.inf
    out = latents.log_mean_exp(values)
    assert float(out[0]) == pytest.approx(math.log(0.75 * 0.5) + 5)  # pair 2 alone, one of its two draws


def test_log_mean_exp_has_the_gradient_of_the_log_of_the_mean(latents: Latents) -> None:
    a, b = VALUES.clone().requires_grad_(), VALUES.clone().requires_grad_()
    latents.log_mean_exp(a).sum().backward()
    latents.mean(b.exp()).log().sum().backward()
    torch.testing.assert_close(a.grad, b.grad)


def test_where_each_pair_is_its_row_the_same_laws_hold() -> None:
    one = Latents({"shared": torch.zeros(2, 4, 3)}, 4)
    torch.testing.assert_close(one.mean(VALUES), VALUES.mean(0))
    torch.testing.assert_close(one.sum(VALUES), VALUES.sum(0))
    torch.testing.assert_close(one.log_mean_exp(VALUES), VALUES.exp().mean(0).log())


def test_per_row_gives_each_pair_what_its_row_has(latents: Latents) -> None:
    assert latents.per_row(torch.tensor([10, 11, 12])).tolist() == [10, 12, 10, 11]
    assert Latents({"shared": torch.zeros(1, 2, 1)}, 2).per_row(torch.tensor([5, 6])).tolist() == [5, 6]


@pytest.mark.parametrize("size", [1, 3, 4, 8, 100])
def test_blocks_of_draws_are_all_draws_in_order(latents: Latents, size: int) -> None:
    parts = list(latents.split(size))
    assert torch.equal(torch.cat([p["shared"] for p in parts]), latents["shared"])
    assert all(p.rows is latents.rows for p in parts)
    assert all(max(size, 4) >= p.K * 4 for p in parts)


@pytest.mark.parametrize("rows", [None, ROWS])
@pytest.mark.parametrize("size", [1, 3, 4, 100])
def test_blocks_of_pairs_keep_their_rows(rows: torch.Tensor | None, size: int) -> None:
    one = Latents({"shared": torch.randn(1, 4, 3)}, 3 if rows is not None else 4, rows=rows)
    parts = list(one.split(size))
    assert torch.equal(torch.cat([p["shared"] for p in parts], 1), one["shared"])
    found = torch.cat([p.row_index(torch.device("cpu")) for p in parts])
    assert found.tolist() == one.row_index(torch.device("cpu")).tolist()
    assert all(p["shared"].shape[1] <= size for p in parts)


def test_take_and_with_values(latents: Latents) -> None:
    taken = latents.take(torch.tensor([3, 0]))["shared"]
    assert torch.equal(taken, latents["shared"][:, [3, 0]])
    more = latents.with_values({"private/a": torch.ones(2, 4, 1)})
    assert set(more.values) == {"shared", "private/a"}
    assert set(latents.values) == {"shared"}
