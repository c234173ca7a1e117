"""Covariates and size factors from tables, matched by id and checked on new tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import mvcore
from mvcore.data.dataset import MultimodalDataset
from mvcore.errors import DataError

LABS = pd.DataFrame({"crp": [1.0, 2.0, 3.0], "ldl": [4.0, np.nan, 6.0]}, index=["ann", "bob", "cleo"])
RNA = pd.DataFrame({"g": [3, 5], "h": [0, 2]}, index=["cleo", "dan"])
CONTEXT = pd.DataFrame(
    {
        "age": [40, 50, 60, 70, 80],
        "sex": pd.Categorical(["m", "f", "m", "f", "m"]),
        "smoker": [True, False, True, False, True],
    },
    index=["dan", "cleo", "bob", "ann", "nobody"],
)


def cohort(**options: Any) -> MultimodalDataset:
    chosen: dict[str, Any] = {"context": CONTEXT, "likelihoods": {"rna": "poisson"}, **options}
    return mvcore.from_frames({"labs": LABS, "rna": RNA}, **chosen)


def test_covariates_are_matched_by_id_and_ids_without_data_are_left_out() -> None:
    data = cohort()
    context = data.batch().context
    assert data.ids.tolist() == ["ann", "bob", "cleo", "dan"]  # type: ignore[union-attr]
    assert context["age"].tolist() == [70, 60, 50, 40]
    assert context["sex"].tolist() == [0, 1, 0, 1]  # f, m
    assert context["smoker"].tolist() == [0, 1, 0, 1]
    assert {c.name: c.category_names for c in data.schema.context} == {"age": None, "sex": ("f", "m"), "smoker": None}


def test_new_covariates_are_read_by_the_names_of_columns_and_categories() -> None:
    new = CONTEXT.assign(sex=CONTEXT["sex"].cat.reorder_categories(["m", "f"]))[["smoker", "sex", "age"]]
    data = cohort()
    again = data.like({"labs": LABS}, context=new)
    assert again.schema.context == data.schema.context
    assert again.batch().context["sex"].tolist() == [0, 1, 0]
    assert again.batch().context["age"].tolist() == [70, 60, 50]


@pytest.mark.parametrize(
    ("context", "message"),
    [
        (CONTEXT.drop("bob"), "'context' has no complete row for 1 ids: 'bob'"),
        (CONTEXT.assign(age=[40, 50, np.nan, 70, 80]), "'context' has no complete row for 1 ids: 'bob'"),
        (CONTEXT.assign(sex=["m", "f", "m", "f", "m"]), "'sex' holds text"),
        (pd.concat([CONTEXT, CONTEXT.iloc[:1]]), "more than one row with the id 'dan'"),
    ],
)
def test_covariates_that_some_row_lacks_are_refused(context: pd.DataFrame, message: str) -> None:
    with pytest.raises(DataError, match=message):
        cohort(context=context)


@pytest.mark.parametrize(
    ("context", "message"),
    [
        (None, "'context' is needed, with the covariates 'age', 'sex', 'smoker'"),
        (CONTEXT.drop(columns="age"), "'context' lacks the columns 'age'"),
        (CONTEXT.assign(bmi=1.0), "'context' also has the columns 'bmi'"),
        (CONTEXT.assign(sex=pd.Categorical(["m", "f", "x", "f", "m"])), "unknown categories 'x'; known are 'f', 'm'"),
    ],
)
def test_new_covariates_that_do_not_fit_are_named(context: pd.DataFrame | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        cohort().like({"labs": LABS}, context=context)


def test_covariates_that_a_model_does_not_know_are_refused() -> None:
    with pytest.raises(DataError, match="built without covariates"):
        cohort(context=None).like({"labs": LABS}, context=CONTEXT)


def test_size_factors_are_matched_by_id_and_absent_rows_count_as_one() -> None:
    factors = pd.Series({"dan": 2.0, "cleo": 0.5})
    data = cohort(size_factors={"rna": factors})
    assert data.batch().size_factors["rna"].tolist() == [1, 1, 0.5, 2]
    with pytest.raises(DataError, match="must be finite and above 0; 1 of 4"):
        cohort(size_factors={"rna": factors.drop("dan")})


def test_a_model_with_covariates_goes_through_training_files_and_imputation(tmp_path: Any) -> None:
    data = cohort(size_factors={"rna": pd.Series({"dan": 2.0, "cleo": 0.5})})
    torch.manual_seed(0)
    small = {m: {"encoder": {"hidden": [4]}, "decoder": {"hidden": [4]}} for m in ("labs", "rna")}
    run = mvcore.fit(mvcore.create("multimodal", data, latent_dim=2, modalities=small), data, epochs=2, progress=False)
    model = mvcore.load(mvcore.save(run.model, tmp_path / "model"))
    assert model.schema == data.schema
    filled = mvcore.impute(model, data, interval=0.8, K=50)
    assert filled["labs"].filled.loc["ann", "crp"] == 1.0
    assert not filled["rna"].filled.isna().any(axis=None)
    older = mvcore.impute(model, data.like({"labs": LABS}, context=CONTEXT.assign(age=CONTEXT["age"] + 40)), K=50)
    assert not np.allclose(older["rna"].filled.loc["ann"], filled["rna"].filled.loc["ann"])  # the networks see the age
