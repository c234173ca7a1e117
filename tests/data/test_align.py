"""Rows are matched with a model by the names of modalities, columns and categories, wherever they enter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import mvcore
from mvcore.data.align import aligned, aligned_batch
from mvcore.data.batch import Batch
from mvcore.data.dataset import MultimodalDataset
from mvcore.data.schema import Schema
from mvcore.errors import DataError
from mvcore.metrics.cells import cell_coverage
from mvcore.models.base import Model

IDS = [f"p{i}" for i in range(24)]


def tables() -> dict[str, pd.DataFrame]:
    """Labs of the first 18 patients, whose columns differ a thousandfold; stages of the last 18; counts of all."""
    rng = np.random.default_rng(0)
    labs = pd.DataFrame({"crp": rng.normal(size=24), "ldl": 1000 + 50 * rng.normal(size=24)}, index=IDS)
    kinds = {
        "stage": pd.Categorical(rng.choice(["I", "II", "III"], 24)),
        "sex": pd.Categorical(rng.choice(["f", "m"], 24)),
    }
    counts = pd.DataFrame(rng.poisson(4, (24, 2)).astype(float), index=IDS, columns=["g1", "g2"])
    return {"labs": labs[:18], "kinds": pd.DataFrame(kinds, index=IDS)[6:], "rna": counts}


def turned() -> dict[str, pd.DataFrame]:
    """The same, modalities, columns and the codes of the stages in another order."""
    given = tables()
    kinds = given["kinds"].copy()
    kinds["stage"] = kinds["stage"].cat.reorder_categories(["III", "I", "II"])
    return {"rna": given["rna"], "kinds": kinds.iloc[:, ::-1], "labs": given["labs"].iloc[:, ::-1]}


def read(frames: dict[str, pd.DataFrame]) -> MultimodalDataset:
    labels = pd.Series(np.arange(24) % 2, index=IDS)
    data = mvcore.from_frames(frames, labels=labels, likelihoods={"rna": "poisson"})
    assert data.ids is not None
    return data.select([data.ids.tolist().index(i) for i in IDS])


@pytest.fixture
def model() -> Model:
    data = read(tables())
    model = mvcore.create("multimodal", data, latent_dim=2)
    model.fit_transforms(data)
    return model


def same(one: Any, other: Any) -> None:
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            same(one[key], other[key])
    elif isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other)
    else:
        torch.testing.assert_close(torch.as_tensor(one), torch.as_tensor(other), rtol=0, atol=0, equal_nan=True)


METRICS = ["log_likelihood", "conditional_log_likelihood", "imputation", "reconstruction", "linear_probe"]
ASK: dict[str, Callable[[Model, MultimodalDataset], Any]] = {
    "impute": lambda m, d: {n: part.filled for n, part in mvcore.impute(m, d, K=4).items()},
    "mvcore.embed": lambda m, d: mvcore.embed(m, d),
    "cell_coverage": lambda m, d: [c.coverage for c in cell_coverage(m, d, share=0.5, K=19)],
    "evaluate": lambda m, d: mvcore.evaluate(m, d, train=d, K=3, metrics=METRICS).values,
}


@pytest.mark.parametrize("what", ASK)
def test_an_answer_does_not_depend_on_the_order_of_modalities_columns_and_codes(model: Model, what: str) -> None:
    same(ASK[what](model, read(tables())), ASK[what](model, read(turned())))


def test_the_order_matters_to_a_batch_which_has_no_names_of_columns_but_of_modalities(model: Model) -> None:
    batch = read(tables()).batch()
    order = ["rna", "labs", "kinds"]
    observed = batch.observed[:, [batch.names.index(m) for m in order]]
    other = Batch({m: batch.x[m] for m in order}, observed, batch.cells)
    for ask in (
        lambda b: model.encode(b, 2).values,
        lambda b: model.embed(b),
        lambda b: model.impute(b, K=3),
        lambda b: model.log_likelihood(b, 5),
        lambda b: model.generate(2, given=b),
        lambda b: model.conditional_log_likelihood(b, ["labs"], ["rna", "kinds"], K=5),
    ):
        same(ask(batch), ask(other))


def test_fit_and_fit_transforms_match_by_name() -> None:
    runs, scales = [], []
    for frames in (tables(), turned()):
        torch.manual_seed(0)
        model = mvcore.create("multimodal", read(tables()), latent_dim=2)
        runs.append(mvcore.fit(model, read(frames), validation=read(frames), epochs=2, progress=False).history)
        fresh = mvcore.create("multimodal", read(tables()), latent_dim=2)
        fresh.fit_transforms(read(frames))
        scales.append(fresh.inputs["labs"].affine.loc)  # type: ignore[union-attr]
    assert runs[0] == runs[1]
    assert torch.equal(scales[0], scales[1])


def test_two_splits_of_a_torch_data_set_have_one_order() -> None:
    rows = [{"b": torch.zeros(2)}, {"a": torch.ones(3), "b": torch.ones(2)}, {"a": torch.zeros(3)}]
    first, second = mvcore.from_torch_dataset(rows), mvcore.from_torch_dataset(rows[::-1])  # type: ignore[arg-type]
    assert first.schema == second.schema
    assert first.schema.names == ("a", "b")


def test_data_in_order_is_itself_and_absent_modalities_have_no_row(model: Model) -> None:
    data = read(tables())
    assert aligned(data, model.schema) is data
    part = MultimodalDataset({"rna": np.ones((3, 2))}, likelihoods={"rna": "poisson"}, ids=list("xyz"))
    found = aligned(part, model.schema)
    assert found.schema == model.schema
    assert found.patterns() == {("rna",): 3}
    assert {m: len(x) for m, x in found.batch().x.items()} == {"labs": 0, "kinds": 0, "rna": 3}
    assert mvcore.impute(model, part, K=2)["labs"].filled.index.tolist() == list("xyz")
    with pytest.raises(DataError, match=r"The model has the modalities .'labs', 'kinds', 'rna'., the data"):
        mvcore.fit(model, part, epochs=1)


def test_all_that_differs_is_one_error(model: Model) -> None:
    frames = tables()
    frames["labs"] = frames["labs"].rename(columns={"ldl": "hdl"})
    frames["kinds"]["stage"] = pd.Categorical(["IV"] * 18)
    with pytest.raises(DataError) as caught:
        aligned(read(frames), model.schema)
    assert "'labs' lacks the columns 'ldl'; 'labs' also has the columns 'hdl'" in str(caught.value)
    with pytest.raises(DataError, match=r"'kinds': the column 'stage' has the unknown categories 'IV'; known are 'I'"):
        aligned(read({"kinds": frames["kinds"], "rna": frames["rna"]}), model.schema)
    wide = MultimodalDataset({"rna": np.ones((3, 4)), "x": np.ones((3, 1))}, likelihoods={"rna": "poisson"})
    with pytest.raises(DataError, match=r"'x' is no modality of the model; 'rna' has the shape \(4,\), the model was"):
        aligned(wide, model.schema)


def test_covariates_are_matched_by_name_and_a_part_may_have_fewer_categories() -> None:
    x, age, sex = np.ones((4, 1)), np.arange(4.0), np.array([0, 1, 2, 0])
    whole = MultimodalDataset({"x": x}, context={"age": age, "sex": sex})
    part = MultimodalDataset({"x": x}, context={"sex": np.array([1, 0, 0, 1]), "age": age})
    found = aligned(part, whole.schema)
    assert found.schema == whole.schema
    assert found.batch().context["sex"].tolist() == [1, 0, 0, 1]
    with pytest.raises(DataError, match="was built for the covariate 'age', which the data lacks"):
        aligned(MultimodalDataset({"x": x}, context={"sex": sex}), whole.schema)


SCHEMA = Schema.from_shapes({"a": (4,), "b": (2, 3)})
A, B = torch.zeros(2, 4), torch.zeros(1, 2, 3)
SEEN = torch.tensor([[True, True], [True, False]])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Batch({"a": torch.zeros(2, 5)}, SEEN[:, :1]), r"'a' has observations of shape \(5,\); the model was"),
        (lambda: Batch({"c": A}, SEEN[:, :1]), "The batch has the modality 'c', the model has a, b"),
        (lambda: Batch({"a": A.long()}, SEEN[:, :1]), "'a' must hold floats; got int64"),
        (lambda: Batch({"a": A + torch.inf}, SEEN[:, :1]), "NaN or infinite values in 2 observed rows"),
        (lambda: Batch({"a": A, "b": B}, SEEN).x, "Expected a Batch; got dict, which is neither"),
        (lambda: MultimodalDataset({"a": A}), r"Expected a Batch; got a MultimodalDataset. Give data.batch\(\)"),
        (lambda: None, "Expected a Batch; got NoneType"),
    ],
)
def test_what_no_model_of_the_schema_can_read_is_one_sentence(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        aligned_batch(make(), SCHEMA)


@pytest.mark.parametrize(
    ("x", "observed", "message"),
    [
        ({"a": [["x"]]}, SEEN[:, :1], "holds tensors; 'a' is list"),
        ({"a": A}, [[True], [True]], "'observed' is list"),
        ({"a": A}, SEEN, r"bool of shape \(rows, 1\).*got bool of shape \(2, 2\)"),
        ({"a": A}, SEEN[:, :1].float(), "got float32"),
        ({"a": A[:1]}, SEEN[:, :1], r"'a' is observed in 2 rows, but has packed values of shape \(1, 4\)"),
        ({"a": A[:, 0]}, SEEN[:, :1], r"packed values of shape \(2,\)"),
    ],
)
def test_a_batch_whose_parts_do_not_fit_is_refused_where_it_is_made(x: Any, observed: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Batch(x, observed)


def test_an_unseen_category_is_named_with_its_modality_and_row() -> None:
    data = MultimodalDataset({"k": np.array([[0], [1], [2]])})
    batch = Batch({"k": torch.tensor([[1], [7]])}, torch.ones(2, 1, dtype=torch.bool))
    with pytest.raises(DataError, match=r"'k' has values that are none of the categories 0 to 2.*: 7 at .* of row 1"):
        aligned_batch(batch, data.schema)
