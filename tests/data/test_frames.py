"""Tables to data sets: ids, gaps, types, and the schema that new tables must fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import mvcore
from mvcore.data.dataset import MultimodalDataset
from mvcore.errors import DataError

NAN = float("nan")


def labs() -> pd.DataFrame:
    return pd.DataFrame({"crp": [1.5, NAN, NAN], "ldl": [2.0, 3.0, NAN]}, index=["ann", "bob", "cy"])


def stage() -> pd.DataFrame:
    columns = {"stage": pd.Categorical(["II", "I", "III"]), "sex": pd.Categorical(["f", None, "m"])}
    return pd.DataFrame(columns, index=["cy", "dan", "ann"])


def data() -> MultimodalDataset:
    return mvcore.from_frames({"labs": labs(), "stage": stage()})


def test_rows_are_matched_by_id_in_the_order_of_first_appearance_and_gaps_are_cells() -> None:
    found = data()
    assert found.ids is not None
    assert found.ids.tolist() == ["ann", "bob", "cy", "dan"]
    assert found.observed.tolist() == [[True, True], [True, False], [False, True], [False, True]]  # cy's labs are NaN
    batch = found.batch()
    assert batch.x["labs"].tolist() == [[1.5, 2.0], [0.0, 3.0]]
    assert batch.cells["labs"].tolist() == [[True, True], [False, True]]
    assert batch.x["stage"].tolist() == [[2, 1], [1, 0], [0, 0]]  # III m, II f, I unknown
    assert batch.cells["stage"].tolist() == [[True, True], [True, True], [True, False]]
    spec = found.schema["stage"]
    assert (spec.likelihood, spec.categories) == ("categorical", 3)
    assert spec.category_names == (("I", "II", "III"), ("f", "m"))


def test_nothing_depends_on_the_order_of_a_table_s_rows() -> None:
    first = data().batch()
    other = mvcore.from_frames({"labs": labs(), "stage": stage().iloc[::-1]})
    assert other.ids is not None
    order = torch.tensor([other.ids.tolist().index(i) for i in ("ann", "bob", "cy", "dan")])
    second = other.batch(order)
    for m in ("labs", "stage"):
        assert torch.equal(first.x[m], second.x[m])
        assert torch.equal(first.cells[m], second.cells[m])


def test_a_column_may_hold_the_ids_and_labels_are_matched() -> None:
    frames = {m: f.rename_axis("who").reset_index() for m, f in {"labs": labs(), "stage": stage()}.items()}
    series = pd.Series({"dan": 4, "cy": 3, "bob": 2, "ann": 1, "eve": 5})
    found = mvcore.from_frames(frames, ids="who", labels=series)
    assert found.ids is not None
    assert found.labels is not None
    assert dict(zip(found.ids.tolist(), found.labels.tolist(), strict=True)) == {"ann": 1, "bob": 2, "cy": 3, "dan": 4}
    with pytest.raises(DataError, match="no entry for 1 of 4 rows: 'ann'"):
        mvcore.from_frames(frames, ids="who", labels=series.drop("ann"))
    with pytest.raises(DataError, match="no column 'id' of ids"):
        mvcore.from_frames(frames, ids="id")


@pytest.mark.parametrize(
    ("column", "kind", "likelihood", "values"),
    [
        (pd.array([1, None, 3], dtype="Int64"), "int", "normal", [1, 0, 3]),
        (pd.array([True, None, False], dtype="boolean"), "bool", "bernoulli", [1, 0, 0]),
        (np.array([True, None, False], dtype=object), "bool", "bernoulli", [1, 0, 0]),
        (pd.array([0.5, None, 2.5], dtype="Float64"), "float", "normal", [0.5, 0, 2.5]),
        (np.array([1, None, 2.5], dtype=object), "float", "normal", [1, 0, 2.5]),
        (pd.Categorical([7, None, 3]), "category", "categorical", [1, 0, 0]),
    ],
)
def test_each_dtype_is_read_with_its_gap(column: Any, kind: str, likelihood: str, values: list[float]) -> None:
    frame = pd.DataFrame({"c": column, "full": column.copy()}, index=[1, 2, 3])
    frame.loc[2, "full"] = column[0]
    found = mvcore.from_frames({"m": frame})
    spec = found.schema["m"]
    assert (spec.dtypes, spec.likelihood) == ((kind, kind), likelihood)
    assert found.batch().x["m"][:, 0].tolist() == values
    assert found.batch().cells["m"][:, 0].tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (labs().assign(name="x"), r"column 'name' holds text; .*astype\('category'\)"),
        (labs().assign(day=pd.Timestamp("2020-01-01")), "column 'day' has the dtype datetime64"),
        (labs().assign(sick=True), r"mixes types: bool \('sick'\), float \('crp', 'ldl'\); make a modality of each"),
        (labs().assign(crp=NAN), "without any value, which can't be learned: 'crp'"),
        (labs() * NAN, "No row has a value in 'm'"),
        (labs().iloc[:0], "No row has a value in 'm'"),
        (labs()[[]], "has no columns"),
        (labs().replace(3.0, np.inf), "infinite, or too large for 32 bits, in the columns 'ldl'"),
        (labs().replace(3.0, -1e39), "too large for 32 bits, in the columns 'ldl'"),
        (labs().set_axis(["a", "a"], axis=1), "more than one column called 'a'"),
        (labs().set_axis([0, 1], axis=1), "names are not text: 0, 1"),
        (labs().set_axis(["p", "p", "q"]), "more than one row with the id 'p'"),
        (labs().set_axis(["p", None, "q"]), "1 rows without an id"),
        (labs(), "1 rows have no value in any table; drop them: 'cy'"),
        ([[1.0]], "must be a DataFrame; got list"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(frame: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        mvcore.from_frames({"m": frame})


def test_ids_of_different_types_would_never_match_and_are_refused() -> None:
    with pytest.raises(DataError, match=r"not of one type.*'a': string, 'b': integer"):
        mvcore.from_frames({"a": labs()[:2], "b": labs()[:2].set_axis([1, 2])})


def test_likelihoods_that_fit_no_table_are_refused() -> None:
    with pytest.raises(DataError, match="need the likelihood 'categorical'; got 'normal'"):
        mvcore.from_frames({"stage": stage()}, likelihoods={"stage": "normal"})
    with pytest.raises(DataError, match="likelihoods names 'rna', which is no modality"):
        mvcore.from_frames({"stage": stage()}, likelihoods={"rna": "normal"})
    with pytest.raises(DataError, match="a categorical dtype, or codes"):
        mvcore.from_frames({"labs": labs()[:2]}, likelihoods={"labs": "categorical"})
    with pytest.raises(DataError, match="at least one table"):
        mvcore.from_frames({})


def test_new_tables_are_matched_by_name_whatever_their_order_and_codes() -> None:
    new = pd.DataFrame({"sex": pd.Categorical(["m"]), "stage": pd.Categorical(["III"])}, index=["zoe"])
    found = data().like({"stage": new})
    assert found.schema == data().schema
    assert found.batch().x["stage"].tolist() == [[2, 1]]  # in the schema's codes, not in the new table's (0, 0)
    assert found.observed.tolist() == [[False, True]]
    assert found.batch().x["labs"].shape == (0, 2)
    swapped = data().like({"labs": labs()[:2].iloc[:, ::-1]})
    assert swapped.batch().x["labs"].tolist() == [[1.5, 2.0], [0.0, 3.0]]


def test_all_that_does_not_fit_the_schema_is_one_error() -> None:
    frames = {
        "labs": pd.DataFrame({"crp": [True], "hdl": [1.0]}, index=["x"]),
        "stage": pd.DataFrame({"stage": pd.Categorical(["IV"]), "sex": ["f"]}, index=["x"]),
    }
    with pytest.raises(DataError) as caught:
        data().like(frames)
    text = str(caught.value)
    assert text.startswith("5 problems")
    for part in (
        "'labs' lacks the columns 'ldl'",
        "'labs' also has the columns 'hdl'",
        "column 'crp' holds bool, the model was built for float",
        "column 'stage' has the unknown categories 'IV'; known are 'I', 'II', 'III'",
        "column 'sex' holds text",
    ):
        assert part in text
    with pytest.raises(DataError, match="frames names 'rna', which is no modality; there are labs, stage"):
        data().like({"rna": labs()})


def test_whole_floats_may_stand_for_integers_with_gaps_and_others_not() -> None:
    counts = mvcore.from_frames({"n": pd.DataFrame({"a": [1, 2], "b": [3, 4]})})
    found = counts.like({"n": pd.DataFrame({"a": [5.0, NAN], "b": [6, 7]})}).batch()
    assert found.x["n"].tolist() == [[5, 6], [0, 7]]
    with pytest.raises(DataError, match="column 'a' holds float, the model was built for int"):
        counts.like({"n": pd.DataFrame({"a": [5.5], "b": [6]})})


def test_the_schema_is_saved_with_the_model_and_checks_new_tables_there(tmp_path: Path) -> None:
    mixed = {"labs": labs(), "stage": stage(), "n": pd.DataFrame({"k": pd.Categorical([3, 1])}, index=["ann", "bob"])}
    frames = mvcore.from_frames(mixed)
    model = mvcore.create("multimodal", frames, latent_dim=2)
    model.fit_transforms(frames)
    loaded = mvcore.load(mvcore.save(model, tmp_path / "model"))
    assert loaded.schema == frames.schema
    assert loaded.schema["n"].category_names == ((1, 3),)
    again = mvcore.from_frames(mixed, schema=loaded.schema)
    assert torch.equal(loaded.embed(again.batch()), model.eval().embed(frames.batch()))
    with pytest.raises(DataError, match="Likelihoods are part of the schema"):
        mvcore.from_frames(mixed, schema=loaded.schema, likelihoods={"labs": "laplace"})


def test_the_page_on_data_runs(run_examples: Callable[[Path], dict[str, Any]]) -> None:
    namespace = run_examples(Path(__file__).parents[2] / "docs" / "data.md")
    out, observed = namespace["out"]["labs"], namespace["labs"]
    filled = out.filled.loc[observed.index]
    for table in (filled, out.low.loc[observed.index], out.high.loc[observed.index]):
        assert np.array_equal(table.to_numpy()[observed.notna()], observed.to_numpy(np.float32)[observed.notna()])
    assert not out.filled.isna().any(axis=None)
    assert (out.low <= out.high).all(axis=None)


@pytest.mark.parametrize(
    "ids",
    [
        [1, 2, "3A"],
        ["0071", "1E5", "x"],
        [3, 1, 2],
        [("a", 1), ("a", 2), ("b", 1)],
        [1.5, 2.0, -1.0],
        [pd.Timestamp("2020-01-01"), pd.Timestamp("2020-01-02"), pd.Timestamp("2020-01-03")],
    ],
)
def test_ids_come_back_as_they_were_so_that_filled_values_find_their_rows(ids: list[Any]) -> None:
    index = pd.Index(ids, tupleize_cols=False)
    a = pd.DataFrame({"x": [1.0, NAN, 3.0], "y": [NAN, 5.0, 6.0]}, index=index)
    b = pd.DataFrame({"z": [1.0, 2.0]}, index=index[1:])
    found = mvcore.from_frames({"a": a, "b": b})
    model = mvcore.create("multimodal", found, latent_dim=2)
    model.fit_transforms(found)
    filled = mvcore.impute(model, found, K=2)["a"].filled
    assert filled.index.tolist() == ids
    assert [type(i) for i in filled.index] == [type(i) for i in index]
    assert not a.fillna(filled).isna().any(axis=None)
    assert mvcore.embed(model, found).index.tolist() == ids
    again = MultimodalDataset({"a": np.zeros((3, 1))}, ids=ids).select([2, 0])
    assert again.ids is not None
    assert pd.Index(again.ids, tupleize_cols=False).tolist() == [index[2], index[0]]


def test_many_problems_are_the_first_few_and_how_many_more() -> None:
    frame = pd.DataFrame({f"c{i}": ["text"] for i in range(20_000)}, index=["p"])
    with pytest.raises(DataError) as caught:
        mvcore.from_frames({"m": frame})
    lines = str(caught.value).splitlines()
    assert lines[0] == "20000 problems in the tables"
    assert len(lines) == 10  # an error has no more
    assert lines[-1].strip() == "and 19992 more"
