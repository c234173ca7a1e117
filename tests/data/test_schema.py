"""A schema refuses what is no shape, where it is written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mvcore.data.schema import ModalitySpec, Schema
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
