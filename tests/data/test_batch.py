"""The laws of ``Batch``: what is absent does not exist, and every view keeps rows and values together."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mvcore.data.batch import Batch
from mvcore.errors import DataError

NAN = float("nan")
HAS_B = torch.tensor([False, True, True, False])
HAS_C = torch.tensor([True, False, True, True])


def row_numbers(*shape: int) -> Tensor:
    """Values that name their row: row i holds i everywhere."""
    return torch.arange(4.0).view(4, *[1] * len(shape)).expand(4, *shape).clone()


@pytest.fixture
def batch() -> Batch:
    """Four rows; a is complete, b and c are not; the values of row i are i, and NaN where a row has nothing."""
    x = {"a": row_numbers(2), "b": row_numbers(3), "c": row_numbers(1, 2)}
    x["b"][~HAS_B] = NAN
    x["c"][~HAS_C] = NAN
    return Batch.from_dense(x, {"b": HAS_B, "c": HAS_C})


def pairs(batch: Batch) -> dict[str, list[tuple[int, float]]]:
    """For each modality the (row of the batch, value) pairs that it holds; every value of an observation must agree."""
    found = {}
    for m in batch.names:
        values = batch.x[m].flatten(1)
        assert (values == values[:, :1]).all()
        found[m] = list(zip(batch.rows(m).tolist(), values[:, 0].tolist(), strict=True))
    return found


def test_a_batch_holds_the_observed_rows_alone_in_their_order(batch: Batch) -> None:
    assert len(batch) == 4
    assert pairs(batch) == {
        "a": [(0, 0), (1, 1), (2, 2), (3, 3)],
        "b": [(1, 1), (2, 2)],
        "c": [(0, 0), (2, 2), (3, 3)],
    }
    assert batch.observed.tolist() == [
        [True, False, True],
        [True, True, False],
        [True, True, True],
        [True, False, True],
    ]
    assert all(x.isfinite().all() for x in batch.x.values())  # the NaN of rows without the modality was never read


def test_what_an_unobserved_row_holds_changes_nothing() -> None:
    mask = torch.tensor([True, False])
    other = torch.tensor([True, True])
    held = []
    for value in (NAN, float("inf"), 7.0):
        x = {"a": torch.tensor([[1.0], [value]]), "b": torch.ones(2, 1)}
        held.append(Batch.from_dense(x, {"a": mask, "b": other}).x["a"])
    assert all(torch.equal(h, torch.tensor([[1.0]])) for h in held)


def test_a_batch_is_complete_if_every_row_has_every_modality_of_it(batch: Batch) -> None:
    assert not batch.complete
    assert batch.only("a").complete
    assert batch.select(torch.tensor([2, 2])).complete


def test_only_keeps_rows_and_their_values_together(batch: Batch) -> None:
    view = batch.only(["c", "b"])
    assert view.names == ("b", "c")  # the batch's order, whatever the caller's
    assert pairs(view) == {m: pairs(batch)[m] for m in ("b", "c")}
    assert len(view) == 4
    assert len(batch.only([])) == 4
    assert batch.only("b").column("b").tolist() == HAS_B.tolist()
    assert not batch.only("b").column("a").any()


def test_without_is_only_of_the_others(batch: Batch) -> None:
    assert pairs(batch.without(["b"])) == pairs(batch.only(["a", "c"]))
    assert batch.without("b").names == batch.only(["a", "c"]).names


@pytest.mark.parametrize("rows", [[2, 0], [3, 3, 1, 3], [], [1], [0, 1, 2, 3]])
def test_select_gives_each_new_row_what_the_old_one_had(batch: Batch, rows: list[int]) -> None:
    part = batch.select(torch.tensor(rows, dtype=torch.long))
    assert len(part) == len(rows)
    assert part.observed.tolist() == batch.observed[rows].tolist()
    for m, found in pairs(part).items():
        assert found == [(new, float(old)) for new, old in enumerate(rows) if bool(batch.column(m)[old])]


def test_select_takes_a_bool_mask_of_the_rows(batch: Batch) -> None:
    mask = torch.tensor([True, False, False, True])
    assert pairs(batch.select(mask)) == pairs(batch.select(torch.tensor([0, 3])))
    with pytest.raises(DataError, match=r"shape \(4,\)"):
        batch.select(mask[:3])


def test_select_and_views_commute(batch: Batch) -> None:
    rows = torch.tensor([3, 1, 1])
    assert pairs(batch.select(rows).only(["b", "c"])) == pairs(batch.only(["b", "c"]).select(rows))


def test_to_keeps_values_rows_and_cells() -> None:
    cells = torch.tensor([[True, False], [True, True]])
    one = Batch({"a": torch.ones(2, 2)}, torch.ones(2, 1, dtype=torch.bool), {"a": cells})
    moved = one.to("cpu")
    assert torch.equal(moved.cells["a"], cells)
    assert torch.equal(moved.x["a"], one.x["a"])
    assert one.only([]).to("cpu").device == torch.device("cpu")


def test_cells_follow_their_observations_through_views() -> None:
    observed = torch.tensor([[True, True], [False, True], [True, True]])
    cells = torch.tensor([[True, False], [False, True]])  # of rows 0 and 2
    batch = Batch({"a": torch.zeros(2, 2), "b": torch.zeros(3, 1)}, observed, {"a": cells})
    assert batch.select(torch.tensor([2, 1, 0, 2])).cells["a"].tolist() == [[False, True], [True, False], [False, True]]
    assert torch.equal(batch.only("a").cells["a"], cells)
    assert batch.only("b").cells == {}


@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [2, 2, 2], [3, 1, 1, 0, 2], [0, 3], []])
def test_match_finds_for_each_pair_the_observation_of_its_row(batch: Batch, rows: list[int]) -> None:
    for m in batch.names:
        found, position = batch.match(m, torch.tensor(rows, dtype=torch.long))
        assert found is not None
        assert position is not None
        have = [n for n, row in enumerate(rows) if bool(batch.column(m)[row])]
        assert found.tolist() == have
        # the values name their row, so what was found can be read off
        assert batch.x[m][position].flatten(1)[:, :1].squeeze(1).tolist() == [float(rows[n]) for n in have]


def test_match_without_rows_means_one_pair_for_each_row(batch: Batch) -> None:
    assert batch.match("a", None) == (None, None)
    found, position = batch.match("b", None)
    assert found is not None
    assert found.tolist() == [1, 2]
    assert position is None


def test_dense_puts_each_packed_row_at_its_place(batch: Batch) -> None:
    view = batch.only(["a", "b"])
    out = view.dense([view.x["a"][:, :2], view.x["b"][:, :2]], -5.0)
    assert out.shape == (2, 4, 2)
    assert out[0, :, 0].tolist() == [0, 1, 2, 3]
    assert out[1, :, 0].tolist() == [-5, 1, 2, -5]


def test_dense_of_complete_rows_is_a_stack(batch: Batch) -> None:
    part = batch.select(torch.tensor([2, 2])).only(["a", "b"])
    packed = [torch.randn(2, 3), torch.randn(2, 3)]
    assert torch.equal(part.dense(packed, NAN), torch.stack(packed))


def test_the_gradient_of_dense_goes_to_the_packed_rows(batch: Batch) -> None:
    view = batch.only(["a", "b"])
    packed = [torch.zeros(4, 1, requires_grad=True), torch.zeros(2, 1, requires_grad=True)]
    weights = torch.arange(8.0).view(2, 4, 1)
    (view.dense(packed, 0.0) * weights).sum().backward()
    assert packed[0].grad is not None
    assert packed[1].grad is not None
    assert packed[0].grad.squeeze(1).tolist() == [0, 1, 2, 3]
    assert packed[1].grad.squeeze(1).tolist() == [5, 6]  # rows 1 and 2 of the second modality


def test_a_batch_of_no_rows_packs() -> None:
    empty = Batch.from_dense({"a": torch.zeros(0, 2), "b": torch.zeros(0, 3)})
    assert len(empty) == 0
    assert empty.dense([torch.zeros(0, 4), torch.zeros(0, 4)], 0.0).shape == (2, 0, 4)


@pytest.mark.parametrize(
    "mask",
    [
        torch.ones(4, 1, dtype=torch.bool),  # (B, 1) would broadcast to (B, B)
        torch.ones(1, 4, dtype=torch.bool),
        torch.ones(3, dtype=torch.bool),
        torch.ones((), dtype=torch.bool),
        torch.ones(4),
        torch.ones(4, dtype=torch.uint8),
        torch.ones(4, dtype=torch.long),
    ],
)
def test_a_mask_must_be_bool_with_one_entry_a_row(mask: Tensor) -> None:
    with pytest.raises(DataError, match=r"mask of 'b' must be bool of shape \(4,\)"):
        Batch.from_dense({"a": torch.zeros(4, 2), "b": torch.zeros(4, 2)}, {"b": mask})


@pytest.mark.parametrize("value", [NAN, float("inf"), -float("inf")])
def test_an_observed_row_must_be_finite(value: float) -> None:
    x = {"a": torch.zeros(3, 2), "b": torch.zeros(3, 2, 2)}
    x["b"][2, 0, 1] = value
    mask = torch.tensor([False, True, True])
    with pytest.raises(DataError, match=r"'b' has NaN or infinite values in 1 observed rows, first in number 2"):
        Batch.from_dense(x, {"b": mask})
    assert len(Batch.from_dense(x, {"b": ~mask}).x["b"]) == 1


def test_rows_with_nothing_are_counted() -> None:
    x = {"a": torch.zeros(4, 2), "b": torch.zeros(4, 2)}
    with pytest.raises(DataError, match="2 of 4 rows have no modality"):
        Batch.from_dense(
            x, {"a": torch.tensor([True, False, False, True]), "b": torch.tensor([True, False, False, False])}
        )


def test_an_unknown_modality_is_named(batch: Batch) -> None:
    for ask in (batch.only, batch.without):
        with pytest.raises(DataError, match="'d'; the batch has a, b, c"):
            ask(["a", "d"])
    with pytest.raises(DataError, match="mask for 'd', which is no modality"):
        Batch.from_dense({"a": torch.zeros(4, 2)}, {"d": HAS_B})


def test_modalities_must_have_equally_many_rows() -> None:
    with pytest.raises(DataError, match="'b' has 3 rows, the first modality has 4"):
        Batch.from_dense({"a": torch.zeros(4, 2), "b": torch.zeros(3, 2)})


def test_keep_is_a_view_in_which_every_row_may_lose_others() -> None:
    observed = torch.tensor([[True, True], [True, False], [True, True]])
    batch = Batch(
        {"a": torch.arange(3.0)[:, None], "b": torch.tensor([[10.0], [12.0]])},
        observed,
        {"b": torch.tensor([[True], [False]])},
        context={"age": torch.arange(3.0)},
        size_factors={"b": torch.ones(3)},
    )
    kept = batch.keep(torch.tensor([[False, True], [True, True], [True, False]]))
    assert kept.observed.tolist() == [[False, True], [True, False], [True, False]]
    assert kept.x["a"].tolist() == [[1.0], [2.0]]
    assert kept.x["b"].tolist() == [[10.0]]
    assert kept.cells["b"].tolist() == [[True]]
    assert kept.context["age"].tolist() == [0.0, 1.0, 2.0]
    assert len(kept.size_factors["b"]) == 3
    assert batch.keep(observed).x["a"] is batch.x["a"]


def test_rows_are_found_in_a_time_that_does_not_grow_with_all_rows(batch: Batch, largest: Any) -> None:
    """Where each row's observation stands is counted once, not for every selection."""
    first = batch.select(torch.tensor([2, 0, 2]))
    assert pairs(first) == {"a": [(0, 2), (1, 0), (2, 2)], "b": [(0, 2), (2, 2)], "c": [(0, 2), (1, 0), (2, 2)]}
    with largest as seen:
        big = Batch.from_dense({"a": torch.randn(5000, 1), "b": torch.randn(5000, 1)}, {"b": torch.arange(5000) > 9})
        big.select(torch.tensor([0]))
        assert seen.values >= 5000
        seen.values = 0
        again = big.select(torch.tensor([4, 4999, 10]))
    assert seen.values < 20
    assert torch.equal(again.x["b"], big.x["b"][[4989, 0]])
    assert again.observed.tolist() == [[True, False], [True, True], [True, True]]
