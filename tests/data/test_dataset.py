"""``MultimodalDataset``: every mistake is told where it was made, and what was given comes out again."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch

from mvcore.data.dataset import MultimodalDataset
from mvcore.errors import DataError

F = np.float32


@pytest.fixture
def data() -> MultimodalDataset:
    """Six rows; a in all of them, b in rows 1, 3 and 4, of which row 3 has an unknown cell; row i holds i."""
    rows = np.arange(6, dtype=F)[:, None]
    cells = np.ones((6, 2), dtype=bool)
    cells[3, 1] = False
    b = np.where(cells, rows, np.nan).astype(F)
    has_b = np.isin(np.arange(6), [1, 3, 4])
    return MultimodalDataset(
        {"a": rows, "b": b}, {"b": has_b}, cells={"b": cells}, labels=list("uvwxyz"), ids=[f"p{i}" for i in range(6)]
    )


@pytest.mark.parametrize(
    ("arrays", "fields", "message"),
    [
        ({}, {}, "at least one modality"),
        ({"a": np.zeros((0, 2), F)}, {}, "at least one row"),
        ({"a": np.zeros(3, F)}, {}, r"shape \(rows, features, …\); got \(3,\)"),
        ({"a": np.float32(1)}, {}, r"got \(\)"),
        ({"a": np.array([["1", "2"]])}, {}, "'a' must hold numbers; got dtype <U1"),
        ({"a": np.array([[1, None]], dtype=object)}, {}, "'a' must hold numbers; got dtype object"),
        ({"a": np.zeros((2, 2), complex)}, {}, "'a' must hold numbers; got dtype complex128"),
        ({"a": torch.zeros(2, 2, dtype=torch.complex64)}, {}, "'a' must hold real numbers"),
        ({"a": [[1.0, 2.0]], "b": [[1.0], [2.0]]}, {}, "'b' has 2 rows, the first modality has 1"),
        ({"a": [[1.0]]}, {"masks": {"c": [True]}}, "masks names 'c', which is no modality; there are a"),
        ({"a": [[1.0]]}, {"likelihoods": {"c": "normal"}}, "likelihoods names 'c'"),
        ({"a": [[1.0]]}, {"cells": {"c": [[True]]}}, "cells names 'c'"),
        ({"a": [[1.0]]}, {"columns": {"c": ["x"]}}, "columns names 'c'"),
        ({"a": [[1.0]]}, {"columns": {"a": ["x", "y"]}}, "1 features, but 2 names of columns"),
        ({"a": [[1.0]]}, {"labels": [1, 2]}, r"labels must have one entry for each of 1 rows; got shape \(2,\)"),
        ({"a": [[1.0]]}, {"ids": ["p", "q"]}, "ids must have one entry for each of 1 rows"),
        ({"a": [[1.0], [2.0]]}, {"masks": {"a": [[True], [True]]}}, r"mask of 'a' must be bool of shape \(2,\)"),
        ({"a": [[1.0], [2.0]]}, {"masks": {"a": [1, 1]}}, "mask of 'a' must be bool; got int64"),
        ({"a": [[1.0], [2.0]]}, {"masks": {"a": np.array([True, None])}}, "mask of 'a' must be bool; got object"),
        ({"a": [[1.0], [2.0]]}, {"masks": {"a": [True]}}, r"shape \(2,\)"),
        ({"a": [[1.0]]}, {"cells": {"a": [True]}}, r"cells of 'a' must be bool of shape \(1, 1\)"),
        ({"a": [[1.0]]}, {"cells": {"a": [[1.0]]}}, "cells of 'a' must be bool; got float64"),
        ({"a": [[1.0]], "b": [[1.0]]}, {"masks": {"b": [False]}}, "No row has the modality 'b'"),
        ({"a": [[1.0], [2.0]]}, {"masks": {"a": [True, False]}}, "1 of 2 rows have no modality"),
        ({"a": [[1.0, np.nan], [2.0, 3.0]]}, {}, "'a' has NaN or infinite values in 1 observed rows"),
        ({"a": np.array([[1e300]])}, {}, "infinite"),  # more than a float32 holds
        ({"a": [[0.5]]}, {"likelihoods": {"a": "categorical"}}, "'a' must hold categories, integers"),
        ({"a": [[-1], [1]]}, {}, "'a' must hold categories, integers"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_at_construction(arrays: dict[str, Any], fields: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        MultimodalDataset({m: np.asarray(a) if isinstance(a, list) else a for m, a in arrays.items()}, **fields)


@pytest.mark.parametrize("kind", ["readonly", "reversed", "byte_order", "float64", "fortran", "tensor", "grad"])
def test_any_numeric_array_holds_its_values_and_is_never_written_to(kind: str) -> None:
    plain = np.arange(6, dtype=F).reshape(3, 2)
    array: Any = plain.copy()
    if kind == "readonly":  # as frames and memory maps give them
        array.setflags(write=False)
    made = {
        "reversed": lambda: plain[::-1].copy()[::-1],
        "byte_order": lambda: plain.astype(">f4"),
        "float64": lambda: plain.astype(np.float64),
        "fortran": lambda: np.asfortranarray(plain),
        "tensor": lambda: torch.from_numpy(plain.copy()),
        "grad": lambda: torch.from_numpy(plain.copy()).requires_grad_(),
    }
    array = made[kind]() if kind in made else array
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = MultimodalDataset({"a": array})
    held = data.batch().x["a"]
    assert held.dtype == torch.float32
    assert not held.requires_grad
    assert held.tolist() == plain.tolist()
    held.zero_()
    assert np.array_equal(np.asarray(array.detach() if isinstance(array, torch.Tensor) else array), plain)


def test_likelihoods_by_default_follow_the_kind_of_the_values() -> None:
    data = MultimodalDataset(
        {
            "real": np.zeros((2, 3)),
            "whole": np.array([[0], [4]]),
            "flag": np.array([[True], [False]]),
            "count": np.array([[7], [0]]),
            "bit": np.array([[1], [0]], dtype=np.uint8),
        },
        likelihoods={"count": "negative_binomial", "bit": "bernoulli"},
    )
    assert {m.name: (m.likelihood, m.categories) for m in data.schema} == {
        "real": ("normal", None),
        "whole": ("categorical", 5),
        "flag": ("bernoulli", None),
        "count": ("negative_binomial", None),
        "bit": ("bernoulli", None),
    }
    # whatever is no category is a number to networks
    kinds = {m: x.dtype for m, x in data.batch().x.items()}
    assert kinds.pop("whole") == torch.long
    assert set(kinds.values()) == {torch.float32}
    assert data.batch().x["flag"].tolist() == [[1.0], [0.0]]


def test_unknown_cells_are_zero_and_masked(data: MultimodalDataset) -> None:
    batch = data.batch()
    assert batch.x["b"].tolist() == [[1, 1], [3, 0], [4, 4]]
    assert batch.cells["b"].tolist() == [[True, True], [True, False], [True, True]]
    ((values, known),) = data.stream("b")
    assert torch.equal(values, batch.x["b"])
    assert known is not None
    assert torch.equal(known, batch.cells["b"])


def test_patterns_count_the_rows_of_each_set_the_most_frequent_first() -> None:
    a = np.array([True, True, True, False, True, False])
    b = np.array([False, True, False, True, False, True])
    data = MultimodalDataset({"a": np.zeros((6, 1)), "b": np.zeros((6, 1))}, {"a": a, "b": b})
    assert list(data.patterns().items()) == [(("a",), 3), (("b",), 2), (("a", "b"), 1)]
    assert sum(data.patterns().values()) == len(data)


def test_dense_gives_back_the_array_with_zeros_where_a_row_has_nothing(data: MultimodalDataset) -> None:
    full, have = data.dense("b")
    assert have.tolist() == [False, True, False, True, True, False]
    assert full.tolist() == [[0, 0], [1, 1], [0, 0], [3, 0], [4, 4], [0, 0]]


@pytest.mark.parametrize("rows", [[4, 1, 0], [3], [5, 5], np.array([True, False, False, True, True, False]), []])
def test_select_keeps_values_labels_and_ids_together(data: MultimodalDataset, rows: Any) -> None:
    part = data.select(rows)
    index = np.flatnonzero(rows) if isinstance(rows, np.ndarray) else np.array(rows, dtype=int)
    assert part.dense("a")[0][:, 0].tolist() == index.tolist()
    assert part.dense("b")[1].tolist() == np.isin(index, [1, 3, 4]).tolist()
    assert part.labels is not None
    assert part.ids is not None
    assert part.labels.tolist() == [list("uvwxyz")[i] for i in index]
    assert part.ids.tolist() == [f"p{i}" for i in index]
    assert part.schema == data.schema


def test_select_refuses_a_mask_of_another_length(data: MultimodalDataset) -> None:
    with pytest.raises(DataError, match=r"shape \(6,\)"):
        data.select(np.array([True, False]))


def test_split_is_a_partition_that_the_seed_decides(data: MultimodalDataset) -> None:
    first, second = data.split(0.5, seed=3)
    assert first.ids is not None
    assert second.ids is not None
    assert data.ids is not None
    assert (len(first), len(second)) == (3, 3)
    assert sorted([*first.ids, *second.ids]) == sorted(data.ids)
    again, _ = data.split(0.5, seed=3)
    assert again.ids is not None
    assert again.ids.tolist() == first.ids.tolist()
    others = {tuple(part.ids.tolist()) for s in range(10) if (part := data.split(0.5, seed=s)[0]).ids is not None}
    assert len(others) > 5  # of the 120 ordered draws of 3 among 6 rows
    for share in (0, 1, -0.1, 1.5):
        with pytest.raises(DataError, match="between 0 and 1"):
            data.split(share)
    with pytest.raises(DataError, match="leaves a part without any"):
        data.split(0.01)


def test_hide_removes_what_the_mask_marks_and_nothing_else(data: MultimodalDataset) -> None:
    mask = np.zeros((6, 2), dtype=bool)
    mask[3, 1] = mask[4, 0] = True  # b of row 3, a of row 4
    hidden = data.hide(mask)
    assert hidden.observed.tolist() == (data.observed & ~torch.from_numpy(mask)).tolist()
    assert hidden.batch().x["a"][:, 0].tolist() == [0, 1, 2, 3, 5]
    assert hidden.batch().x["b"].tolist() == [[1, 1], [4, 4]]
    assert hidden.batch().cells["b"].tolist() == [[True, True], [True, True]]
    assert data.observed.sum() == 9  # the data set itself is as it was
    with pytest.raises(DataError, match="1 of 6 rows would have no modality left"):
        data.hide(np.array([[True, False], *[[False, False]] * 5]))
    with pytest.raises(DataError, match=r"bool of shape \(6, 2\)"):
        data.hide(np.zeros((2, 6), dtype=bool))
    with pytest.raises(DataError, match="must be bool"):
        data.hide(np.zeros((6, 2)))


def test_batches_hold_every_row_once(data: MultimodalDataset) -> None:
    in_order = [b.rows("a").numel() and b.x["a"][:, 0].tolist() for b in data.batches(4)]
    assert in_order == [[0, 1, 2, 3], [4, 5]]
    shuffled = [b.x["a"][:, 0].tolist() for b in data.batches(4, generator=torch.Generator().manual_seed(1))]
    assert [len(s) for s in shuffled] == [4, 2]
    flat = [value for values in shuffled for value in values]
    assert sorted(flat) == [0, 1, 2, 3, 4, 5]
    assert flat != [0, 1, 2, 3, 4, 5]


def test_an_unknown_modality_is_named(data: MultimodalDataset) -> None:
    for ask in (data.dense, lambda name: list(data.stream(name))):
        with pytest.raises(DataError, match="'c'; the schema has a, b"):
            ask("c")


@pytest.mark.parametrize("rows", [[6], [-1], [0.5], [[0], [1, 2]], [[0]], "0", [True], {"a": 1}])
def test_what_selects_no_rows_is_refused(rows: Any) -> None:
    data = MultimodalDataset({"a": np.arange(12.0).reshape(6, 2)})
    assert data.select([5, 0]).batch().x["a"].tolist() == [[10.0, 11.0], [0.0, 1.0]]
    with pytest.raises(DataError):
        data.select(rows)
