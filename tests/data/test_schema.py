"""A schema refuses what is no shape, where it is written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from torch import nn

from mvcore.data.names import file_name
from mvcore.data.schema import CovariateSpec, ModalitySpec, Schema
from mvcore.errors import DataError


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (5, r"such as \(5,\); got the number 5"),
        (np.int64(5), "got the number"),
        ((), "at least one dimension"),
        ((3, -1), "only positive sizes"),
        ((0,), "only positive sizes"),
        ((2.5,), "tuple of integers"),  # an int() would make it 2
        ("28", "tuple of integers"),
        (2.5, "tuple of integers"),
        (None, "tuple of integers"),
    ],
)
def test_what_is_no_shape_is_refused(shape: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ModalitySpec(name="a", shape=shape)
    with pytest.raises(DataError, match=message):
        Schema.from_shapes({"a": shape})


def test_sizes_and_the_shape_an_encoder_sees() -> None:
    image = ModalitySpec(name="image", shape=(3, 28, 29))
    assert image.size == 3 * 28 * 29
    assert image.input_shape == (3, 28, 29)
    word = ModalitySpec(name="word", shape=(7, 2), likelihood="categorical", categories=5)
    assert word.input_shape == (5, 7, 2)  # one-hot, first
    assert ModalitySpec(name="a", shape=[np.int64(3)]).shape == (3,)


def test_a_schema_has_each_name_once_and_says_which_it_has() -> None:
    a, b = ModalitySpec(name="a", shape=(2,)), ModalitySpec(name="b", shape=(3,))
    schema = Schema((a, b))
    assert (schema.names, len(schema), list(schema), schema["b"]) == (("a", "b"), 2, [a, b], b)
    for wrong in [(), (a, a)]:
        with pytest.raises(DataError, match="each name once"):
            Schema(wrong)
    with pytest.raises(DataError, match="no modality 'c'; the schema has a, b"):
        schema["c"]
    with pytest.raises(DataError, match="likelihoods names 'c'"):
        Schema.from_shapes({"a": (2,)}, {"c": "bernoulli"})


@pytest.mark.parametrize(
    "name",
    [
        "/abs/path", "/", "\\\\host\\x", "../x", "..", "a/../b", "a//b", "a/", " a", "a ", "a\0b", "a\nb", "\x1b[31m",
        "a\u202eb", "\ud800", "", "CON", "nul", "Lpt1", "x" * 10**6, "é" * 101, 3, None, ("a",), "__class__",
    ],
)  # fmt: skip
def test_a_name_that_can_be_no_file_inside_a_folder_is_refused_shortly(name: Any) -> None:
    for make in (lambda: ModalitySpec(name=name, shape=(2,)), lambda: Schema.from_shapes({name: (2,)})):
        with pytest.raises(DataError, match="A modality can't be called") as caught:
            make()
        assert len(str(caught.value)) < 400
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["a\0b", "a\nb", "", 3, "x" * 500])
def test_a_covariate_has_a_name_that_can_be_shown(name: Any) -> None:
    with pytest.raises(DataError, match="A covariate can't be called"):
        CovariateSpec(name=name)
    assert CovariateSpec(name="BMI [kg/m²], 2. visit").width == 1


def test_every_name_that_torch_keeps_is_known_to_the_schema() -> None:
    for name in dir(nn.ModuleDict()):
        with pytest.raises(DataError, match="can't be called"):
            ModalitySpec(name=name, shape=(2,))


def test_a_file_name_has_nothing_of_a_path_and_is_one_to_one() -> None:
    assert [file_name(n) for n in ("labs", "a/b", "a%2Fb", "x:y", "ä b")] == [
        "labs",
        "a%2Fb",
        "a%252Fb",
        "x%3Ay",
        "ä b",
    ]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"columns": ("u",)}, r"the shape \(2,\), but 1 columns"),
        ({"columns": ("u", "v"), "shape": (2, 1)}, r"the shape \(2, 1\), but 2 columns"),
        ({"columns": ("u", "u")}, "more than one column called 'u'"),
        ({"columns": ("u", "v"), "dtypes": ("int",)}, "but 1 dtypes"),
        ({"columns": ("u", "v"), "category_names": (("x",),)}, "but 1 category names"),
    ],
)
def test_columns_fit_the_shape(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        ModalitySpec(**{"name": "a", "shape": (2,), **fields})
