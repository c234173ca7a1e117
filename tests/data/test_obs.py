"""Cells of MuData and AnnData: covariates and size factors by column, from memory or file, and results back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch

import mvcore
from mvcore.data import into_layer, into_obsm
from mvcore.errors import DataError

anndata = pytest.importorskip("anndata")
mudata = pytest.importorskip("mudata")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")


def modalities(n: int = 40) -> dict[str, Any]:
    """Counts of cells 0 … n − 11, and proteins of cells 10 … n − 1, each with its batch."""
    rng = np.random.default_rng(0)
    names, batch = np.array([f"c{i}" for i in range(n)]), np.array(["one", "two"] * (n // 2))
    depth = np.where(batch == "one", 3.0, 30.0)
    counts = rng.poisson(depth[:, None] * np.array([0.2, 1.0, 2.0])).astype(np.float32) + np.array(
        [1, 0, 0], np.float32
    )
    rna = anndata.AnnData(
        scipy.sparse.csr_matrix(counts[:-10]),
        obs=pd.DataFrame({"batch": batch[:-10], "depth": depth[:-10]}, index=names[:-10]),
        var=pd.DataFrame(index=["g1", "g2", "g3"]),
    )
    protein = anndata.AnnData(
        rng.normal(size=(n - 10, 2)).astype(np.float32),
        obs=pd.DataFrame({"batch": batch[10:]}, index=names[10:]),
        var=pd.DataFrame(index=["p1", "p2"]),
    )
    return {"rna": rna, "protein": protein}


KINDS = {"rna": "negative_binomial"}


def test_a_batch_is_a_covariate_of_all_cells_of_any_modality_and_totals_are_per_ten_thousand() -> None:
    adatas = modalities()
    data = mvcore.from_anndata(adatas, likelihoods=KINDS, context="batch", size_factors={"rna": "totals"})
    assert data.ids is not None
    batch = data.batch()
    assert data.schema.context[0].category_names == ("one", "two")
    assert batch.context["batch"].tolist() == [0, 1] * 20
    totals = np.asarray(adatas["rna"].X.sum(axis=1)).ravel() / 10_000
    np.testing.assert_allclose(batch.size_factors["rna"][:30].numpy(), totals, rtol=1e-6)
    assert batch.size_factors["rna"][30:].tolist() == [1] * 10  # cells without counts


def test_a_column_of_obs_is_taken_as_it_is() -> None:
    data = mvcore.from_anndata(modalities(), likelihoods=KINDS, context=["batch"], size_factors={"rna": "depth"})
    assert data.batch().size_factors["rna"][:4].tolist() == [3, 30, 3, 30]


def test_columns_of_a_mudata_come_first_and_a_schema_names_its_own() -> None:
    mdata = mudata.MuData(modalities())
    mdata.obs["site"] = ["north"] * 25 + ["south"] * 15
    data = mvcore.from_mudata(mdata, likelihoods=KINDS, context=["site", "batch"], size_factors={"rna": "depth"})
    assert [c.name for c in data.schema.context] == ["site", "batch"]
    again = mvcore.from_mudata(mdata[:12].copy(), schema=data.schema)
    assert torch.equal(again.batch().context["site"], data.batch().context["site"][:12])


@pytest.mark.parametrize("backed", [False, True])
def test_from_a_file_to_an_embedding_in_the_users_object(tmp_path: Path, backed: bool) -> None:
    with pd.option_context("future.infer_string", False):  # anndata writes no strings of pyarrow
        mudata.MuData(modalities()).write(tmp_path / "cells.h5mu")
    mdata = mudata.read_h5mu(tmp_path / "cells.h5mu", backed=backed)
    data = mvcore.from_mudata(mdata, likelihoods=KINDS, context="batch", size_factors={"rna": "totals"})
    run = mvcore.fit(mvcore.create("multimodal", data, latent_dim=3, seed=0), data, epochs=2, progress=False)
    table = mvcore.embed(run.model, data)
    into_obsm(mdata, table)
    into_obsm(mdata["rna"], table, "X_vae")
    assert mdata.obsm["X_mvcore"].shape == (40, 3)
    np.testing.assert_array_equal(mdata.obsm["X_mvcore"], table.loc[mdata.obs_names].to_numpy())
    np.testing.assert_array_equal(mdata["rna"].obsm["X_vae"], table.loc[mdata["rna"].obs_names].to_numpy())
    out = mvcore.impute(run.model, data)["rna"].filled
    whole = modalities()["rna"]
    into_layer(whole, out[["g3", "g1", "g2"]], "filled")  # columns are matched by name
    np.testing.assert_array_equal(whole.layers["filled"], whole.X.toarray())  # what is observed is kept


def test_cells_that_the_table_lacks_are_nan() -> None:
    rna = modalities()["rna"]
    into_obsm(rna, pd.DataFrame({"z0": [1.0, 2.0]}, index=["c3", "c0"]), "z")
    assert rna.obsm["z"][[0, 3], 0].tolist() == [2, 1]
    assert np.isnan(rna.obsm["z"]).sum() == 28


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"context": "site"}, "no obs has a column 'site'; there are 'batch', 'depth'"),
        ({"context": 3}, "context must name columns of obs"),
        ({"context": []}, "context must name columns of obs"),
        ({"size_factors": {"rna": "n"}}, "no obs has a column 'n'"),
        ({"size_factors": {"atac": "totals"}}, "size_factors names 'atac', which is no modality"),
        ({"size_factors": "totals"}, "size_factors must map modalities"),
        ({"size_factors": {"rna": "batch"}}, "must be a Series of numbers"),
    ],
)
def test_what_is_not_there_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        mvcore.from_anndata(modalities(), likelihoods=KINDS, **settings)


def test_modalities_that_differ_in_a_cell_are_refused() -> None:
    adatas = modalities()
    adatas["protein"].obs.loc["c12", "batch"] = "three"
    with pytest.raises(
        DataError, match="'batch' differs between modalities in 1 cells, first 'c12': 'one' and 'three'"
    ):
        mvcore.from_anndata(adatas, likelihoods=KINDS, context="batch")


def test_what_cannot_be_written_back_is_refused() -> None:
    rna = modalities()["rna"]
    with pytest.raises(DataError, match="no cell in common; their first are 'x' and 'c0'"):
        into_obsm(rna, pd.DataFrame({"z0": [1.0]}, index=["x"]))
    with pytest.raises(DataError, match="Expected a DataFrame"):
        into_obsm(rna, np.zeros((30, 2)))
    with pytest.raises(DataError, match="lacks columns of the object: 'g2', 'g3'"):
        into_layer(rna, pd.DataFrame({"g1": [1.0]}, index=["c0"]))
