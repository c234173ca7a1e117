"""Tables read in blocks: every value is where a plain conversion has it, and no table is held a second time."""

from __future__ import annotations

import pickle
import tracemalloc
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

import mvcore
from mvcore.data import columns
from mvcore.data.align import aligned
from mvcore.data.dataset import MultimodalDataset

N, F = 23, 7


@pytest.fixture(params=[1, 11, 2**19])
def _block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of one row, of some, and of all."""
    monkeypatch.setattr(columns, "VALUES", request.param * F)


def numbers(seed: int = 0, gaps: float = 0.3) -> np.ndarray[Any, Any]:
    """Values with gaps; row 5 has none at all."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(N, F)).round(3)
    values[rng.random(values.shape) < gaps] = np.nan
    values[5] = np.nan
    return values


def of_dtypes() -> pd.DataFrame:
    """Columns of every kind of numbers; pandas' own dtypes have gaps of their own."""
    values = numbers()
    whole = pd.DataFrame(values).round()
    return pd.DataFrame(
        {
            "double": values[:, 0],
            "single": values[:, 1].astype(np.float32),
            "int": np.arange(N, dtype=np.int16),
            "Int": whole[3].astype("Int64"),
            "Float": pd.array(values[:, 4], dtype="Float32"),
            "object": pd.Series([None if np.isnan(v) else v for v in values[:, 5]], dtype=object),
            "unsigned": np.arange(N, dtype=np.uint8),
        }
    )


TABLES = {
    "one block": lambda: pd.DataFrame(numbers(), columns=list("abcdefg")),
    "no gaps": lambda: pd.DataFrame(np.nan_to_num(numbers()), columns=list("abcdefg")),
    "single": lambda: pd.DataFrame(numbers().astype(np.float32), columns=list("abcdefg")),
    "by column": lambda: pd.concat([pd.Series(v, name=c) for c, v in zip("abcdefg", numbers().T, strict=True)], axis=1),
    "dtypes": of_dtypes,
    "dtypes of pandas": lambda: of_dtypes().drop(columns="object"),
}


def plain(frame: pd.DataFrame) -> np.ndarray[Any, Any]:
    """The straightforward conversion."""
    return frame.astype(float).to_numpy(dtype=float, na_value=np.nan).astype(np.float32)


@pytest.mark.usefixtures("_block")
@pytest.mark.parametrize("kind", TABLES)
def test_a_table_has_the_values_of_a_plain_conversion_whatever_the_order_of_its_rows(kind: str) -> None:
    rng = np.random.default_rng(1)
    frame = TABLES[kind]()
    turned = frame.iloc[rng.permutation(N)[: N - 4]]  # other rows, in another order, beside the first table's
    data = mvcore.from_frames({"first": frame[[frame.columns[0]]].fillna(0), "second": turned})
    wanted = plain(turned.reindex(frame.index))
    have = ~np.isnan(wanted).all(1)
    assert data.observed[:, 1].tolist() == have.tolist()
    x, known = data.batch().values("second")
    assert np.array_equal(x.numpy(), np.nan_to_num(wanted[have]))
    found = np.ones(x.shape, dtype=bool) if known is None else known.numpy()
    assert np.array_equal(found, ~np.isnan(wanted[have]))
    assert x.dtype == torch.float32


@pytest.mark.usefixtures("_block")
@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix, sp.csc_matrix, sp.csr_array, sp.csc_array])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_a_sparse_matrix_gives_what_its_dense_table_gives(kind: Any, dtype: Any) -> None:
    values = np.where(np.random.default_rng(0).random((N, F)) < 0.6, 0, 3).astype(dtype)
    if values.dtype.kind == "f":
        values[2, 3] = np.nan
    adata = anndata.AnnData(kind(values))
    frame = pd.DataFrame(values, index=adata.obs_names, columns=adata.var_names)
    ours, theirs = mvcore.from_anndata({"rna": adata}), mvcore.from_frames({"rna": frame})
    assert ours.schema == theirs.schema
    assert torch.equal(ours.batch().x["rna"], theirs.batch().x["rna"])
    assert ours.batch().cells.keys() == theirs.batch().cells.keys()


@pytest.mark.usefixtures("_block")
def test_codes_of_categories_follow_the_names_of_the_first_data() -> None:
    first = pd.DataFrame({c: pd.Categorical(list("xyzxyzx"), categories=list("xyz")) for c in "ab"})
    data = mvcore.from_frames({"m": first})
    later = pd.DataFrame(
        {"b": pd.Categorical(["z", None, "y"], categories=list("zxyw")), "a": pd.Categorical(["x", "y", "z"])}
    )
    x, known = data.like({"m": later}).batch().values("m")
    assert x.tolist() == [[0, 2], [1, 0], [2, 1]]  # x, y, z are 0, 1, 2; the gap is 0
    assert known is not None
    assert known.tolist() == [[True, True], [True, False], [True, True]]


def test_ten_thousand_columns_in_another_order_are_matched_by_their_names() -> None:
    """For each column a search among all others would take a second."""
    names = [f"g{i}" for i in range(10_000)]
    values = np.arange(20_000, dtype=float).reshape(2, -1)
    data = mvcore.from_frames({"rna": pd.DataFrame(values, columns=names)})
    turned = data.like({"rna": pd.DataFrame(values[:1, ::-1], columns=names[::-1])})
    assert torch.equal(turned.batch().x["rna"], data.batch().x["rna"][:1])
    reverse = mvcore.from_frames({"rna": pd.DataFrame(values[:1, ::-1], columns=names[::-1])})
    assert torch.equal(aligned(reverse, data.schema).batch().x["rna"], data.batch().x["rna"][:1])


@pytest.mark.parametrize("gaps", [0.0, 0.1])
def test_reading_takes_hardly_more_memory_than_what_is_held(gaps: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "VALUES", 2**14)
    rng = np.random.default_rng(0)
    values = rng.normal(size=(20_000, 100))
    values[rng.random(values.shape) < gaps] = np.nan
    turned = pd.DataFrame(values, columns=[f"c{i}" for i in range(100)], index=rng.permutation(20_000))
    first = turned.iloc[:, :1].sort_index().fillna(0)
    mvcore.from_frames({"a": first.head(), "b": turned.head()})
    tracemalloc.start()
    data = mvcore.from_frames({"a": first, "b": turned})
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    table = 20_000 * 100 * (4 if gaps == 0 else 5)  # bytes: float32, and a bool where there are gaps
    assert peak < 1.3 * table + 20_000 * 100  # ids, positions and order: some 100 bytes a row
    assert len(data) == 20_000
    assert held < peak


KINDS = [(d, "normal") for d in (np.uint8, np.int8, np.int16, np.bool_)] + [(np.uint8, "categorical")]


@pytest.mark.parametrize(("dtype", "likelihood"), KINDS)
def test_small_integers_are_read_as_they_would_be_if_they_were_large_ones(dtype: Any, likelihood: str) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2, size=(12, 3, 2)).astype(dtype)
    masks = {"image": rng.random(12) < 0.7}
    cells = {"image": rng.random(values.shape) < 0.8}
    both = [
        MultimodalDataset(
            {"image": image, "other": np.zeros((12, 1), np.float32)},
            masks,
            cells=cells,
            likelihoods={"image": likelihood},
        )
        for image in (values, values.astype(np.int64))
    ]
    narrow, wide = both
    assert narrow.schema == wide.schema
    order = torch.tensor([3, 0, 11, 3, 7])
    hidden = np.zeros((12, 2), dtype=bool)
    hidden[masks["image"], 0] = rng.random(masks["image"].sum()) < 0.5
    views = [lambda d: d, lambda d: d.select(order), lambda d: d.split(0.5)[1], lambda d: d.hide(hidden)]
    for view in views:
        ours, theirs = view(narrow), view(wide)
        for got, wanted in [(ours.batch(), theirs.batch()), (ours.batch(torch.tensor([2, 1])), theirs.batch([2, 1]))]:
            x, known = got.values("image")
            other, cells_there = wanted.values("image")
            assert x.dtype == other.dtype
            assert torch.equal(x, other)
            assert torch.equal(known, cells_there)
        assert all(torch.equal(a, b) for a, b in zip(ours.dense("image"), theirs.dense("image"), strict=True))
        assert all(x.dtype in (torch.float32, torch.long) for x, _ in ours.stream("image"))


def test_bytes_are_held_as_bytes() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (500, 3, 8, 8), dtype=np.uint8)  # 96,000 bytes
    data = MultimodalDataset({"image": pixels}, likelihoods={"image": "normal"})
    for held in (data, data.select(torch.arange(500)), data.hide(np.zeros((500, 1), dtype=bool))):
        assert len(pickle.dumps(held)) < 110_000
        assert torch.equal(held.batch().x["image"], torch.from_numpy(pixels).float())
