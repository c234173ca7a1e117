"""AnnData, MuData and torch data sets say the same as tables and arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch

import mvcore
from mvcore.errors import DataError

anndata = pytest.importorskip("anndata")


def rna(sparse: bool) -> Any:
    counts = np.array([[0, 2], [3, 0], [1, 1]], dtype=np.float32)
    adata = anndata.AnnData(
        scipy.sparse.csr_matrix(counts) if sparse else counts,
        obs=pd.DataFrame(index=["c1", "c2", "c3"]),
        var=pd.DataFrame(index=["g1", "g2"]),
    )
    adata.layers["double"] = adata.X * 2
    return adata


def protein() -> Any:
    obs, var = pd.DataFrame(index=["c4", "c2"]), pd.DataFrame(index=["p1"])
    return anndata.AnnData(np.array([[4.0], [2.0]], dtype=np.float32), obs=obs, var=var)


@pytest.mark.parametrize("sparse", [True, False])
def test_cells_are_matched_by_name_and_a_layer_is_read(sparse: bool) -> None:
    adatas = {"rna": rna(sparse), "protein": protein()}
    data = mvcore.from_anndata(adatas, layers={"rna": "double"}, likelihoods={"rna": "negative_binomial"})
    assert data.ids is not None
    assert data.ids.tolist() == ["c1", "c2", "c3", "c4"]
    assert data.batch().x["rna"].tolist() == [[0, 4], [6, 0], [2, 2]]
    assert data.batch().x["protein"].tolist() == [[2], [4]]  # c2, c4
    assert data.observed.tolist() == [[True, False], [True, True], [True, False], [False, True]]
    assert data.schema["rna"].columns == ("g1", "g2")
    with pytest.raises(DataError, match="no layer 'log'; it has double"):
        mvcore.from_anndata(adatas, layers={"rna": "log"})
    with pytest.raises(DataError, match="layers names 'atac'"):
        mvcore.from_anndata(adatas, layers={"atac": "log"})


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_mudata_gives_the_data_of_its_modalities() -> None:
    mudata = pytest.importorskip("mudata")
    mdata = mudata.MuData({"rna": rna(True), "protein": protein()})
    mdata.obs["type"] = [f"type of {name}" for name in mdata.obs_names]
    data = mvcore.from_mudata(mdata, labels="type")
    assert data.ids is not None
    assert data.labels is not None
    assert data.labels.tolist() == [f"type of {name}" for name in data.ids]
    same = mvcore.from_anndata({"rna": rna(False), "protein": protein()})
    assert data.ids.tolist() == same.ids.tolist()  # type: ignore[union-attr]
    for m in ("rna", "protein"):
        assert torch.equal(data.batch().x[m], same.batch().x[m])
    with pytest.raises(DataError, match="no column 'kind' of labels"):
        mvcore.from_mudata(mdata, labels="kind")


class Items(torch.utils.data.Dataset[dict[str, Any]]):
    def __init__(self, *items: Any) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, number: int) -> Any:
        return self.items[number]


def test_items_of_a_torch_data_set_have_what_they_have() -> None:
    data = mvcore.from_torch_dataset(
        Items(
            {"a": torch.tensor([1.0, 2.0]), "y": 7},
            {"b": torch.tensor([3]), "a": None, "y": torch.tensor(8)},
            {"b": torch.tensor([0]), "a": torch.tensor([4.0, 5.0]), "y": 9},
        ),
        labels="y",
    )
    assert data.observed.tolist() == [[True, False], [False, True], [True, True]]
    assert data.batch().x["a"].tolist() == [[1, 2], [4, 5]]
    assert data.batch().x["b"].tolist() == [[3], [0]]
    assert data.schema["b"].categories == 4
    assert data.labels is not None
    assert data.labels.tolist() == [7, 8, 9]


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (Items(), "No item of 0"),
        (Items((1, 2)), "Item 0 must be a dict of modalities; got tuple"),
        (Items({"a": torch.zeros(2)}, {"a": torch.zeros(3)}), r"of shape \(2,\) in its first item, .*\(3,\) in item 1"),
        (Items({"a": torch.zeros(2)}, {"a": None}), "1 of 2 rows have no modality"),
        (Items({"a": torch.tensor([NAN := float("nan")])}), "NaN or infinite"),
        (iter([{"a": torch.zeros(2)}]), "has len and items by number"),
    ],
)
def test_items_that_make_no_data_set_are_refused(items: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        mvcore.from_torch_dataset(items)


def test_values_that_lie_in_a_file_are_read_or_named(tmp_path: Any) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        adata = rna(False)
        adata.layers["file"] = file.create_dataset("x", data=np.asarray(adata.X))
        assert mvcore.from_anndata({"rna": adata}, layers={"rna": "file"}).batch().x["rna"].tolist() == adata.X.tolist()

    class Backed:
        """What anndata gives for a sparse matrix in a file: it can be read into memory, and is no array."""

        shape = (20_000, 20_000)

        def to_memory(self) -> None: ...

    class OnDisk:
        X, layers, obs_names, var_names = Backed(), dict[str, Any](), ["c"] * 20_000, ["g"] * 20_000

    with pytest.raises(DataError, match=r"'rna' holds its values in a file.*give adata.to_memory\(\)"):
        mvcore.from_anndata({"rna": OnDisk()})  # type: ignore[dict-item]
