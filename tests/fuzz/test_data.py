"""Arrays, tables, batches and the arguments of what takes them."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, strategies as st

import mvcore
from mvcore.testing.fuzz import done_or_refused, fuzzed, nasty_numbers, nasty_texts, plain_values

DTYPES = ["f4", "f8", "f2", "i1", "u1", "i8", "u8", "?", "c8", "O", "U3", "S2", "M8[s]", "m8[s]"]
NAMES = st.one_of(st.sampled_from(["a", "b"]), nasty_texts)
#: Values of arguments, without counts so large that taking them at their word is right and takes hours.
VALUES = plain_values.filter(lambda v: not (isinstance(v, (int, float)) and 2_000 < v < 1e12))


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@st.composite
def arrays(draw: st.DrawFn) -> Any:
    """An array of any type and shape, with values at the edges; or no array at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(plain_values)
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    numbers = draw(st.lists(st.floats(width=32), min_size=1, max_size=6))
    with np.errstate(all="ignore"):
        filled = np.resize(np.array(numbers), shape).astype(draw(st.sampled_from(DTYPES)))
    try:
        return torch.from_numpy(filled) if draw(st.booleans()) else filled
    except TypeError:  # torch has no such type
        return filled


@fuzzed(200)
@given(st.dictionaries(NAMES, arrays(), max_size=3), st.data())
def test_any_arrays_make_a_data_set_and_a_model_or_an_error(given_: dict[str, Any], data: st.DataObject) -> None:
    options: dict[str, Any] = {}
    for name in ("masks", "cells"):
        if data.draw(st.integers(0, 3)) == 0:
            options[name] = data.draw(st.dictionaries(NAMES, arrays(), max_size=2))
    for name in ("likelihoods", "labels", "ids", "columns", "context", "size_factors"):
        if data.draw(st.integers(0, 5)) == 0:
            options[name] = data.draw(st.one_of(plain_values, arrays()))

    def act() -> None:
        rows = mvcore.MultimodalDataset(given_, **options)
        model = mvcore.create("multimodal", rows, latent_dim=2)
        mvcore.embed(model, rows)
        mvcore.impute(model, rows, K=2)

    done_or_refused(act)


cells = st.one_of(
    st.none(), st.booleans(), st.floats(), st.integers(-(2**70), 2**70), nasty_texts, st.just(pd.NaT), st.just(pd.NA)
)


@st.composite
def frames(draw: st.DrawFn) -> Any:
    """A table of any columns and index; or no table at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(plain_values)
    n = draw(st.integers(0, 5))
    kind = st.sampled_from([cells, st.floats(), st.integers(-5, 5), st.booleans(), st.sampled_from(["x", "y", None])])
    columns = draw(st.lists(st.one_of(nasty_texts, st.integers(0, 3), st.none()), max_size=3))
    series = [pd.Series(draw(st.lists(draw(kind), min_size=n, max_size=n))) for _ in columns]
    if series and draw(st.booleans()):
        series[0] = series[0].astype("category")
    frame = pd.concat(series, axis=1) if series else pd.DataFrame(index=range(n))
    frame.columns = pd.Index(columns, dtype=object)
    frame.index = pd.Index(draw(st.lists(st.one_of(st.integers(0, 9), cells), min_size=n, max_size=n)), dtype=object)
    return frame


@fuzzed(200)
@given(st.dictionaries(NAMES, frames(), max_size=3), st.data())
def test_any_tables_make_a_data_set_or_an_error(given_: dict[str, Any], data: st.DataObject) -> None:
    options: dict[str, Any] = {}
    for name in ("likelihoods", "ids", "labels", "context", "size_factors"):
        if data.draw(st.integers(0, 5)) == 0:
            options[name] = data.draw(st.one_of(plain_values, frames()))

    def act() -> None:
        rows = mvcore.from_frames(given_, **options)
        mvcore.embed(mvcore.create("multimodal", rows, latent_dim=2), rows)

    done_or_refused(act)


@pytest.fixture(scope="module")
def rows() -> mvcore.MultimodalDataset:
    draws = np.random.default_rng(0)
    return mvcore.MultimodalDataset({"a": draws.normal(size=(6, 3)), "b": draws.random((6, 2)) < 0.5})


@pytest.fixture(scope="module")
def model(rows: mvcore.MultimodalDataset) -> mvcore.Model:
    small = {m: {"encoder": {"hidden": [4]}, "decoder": {"hidden": [4]}} for m in ("a", "b")}
    made = mvcore.create("multimodal", rows, latent_dim=2, modalities=small)
    return mvcore.fit(made, rows, epochs=1, progress=False).model


CALLS = {
    "impute": (mvcore.impute, ("interval", "K", "samples", "seed", "batch_size")),
    "embed": (mvcore.embed, ("seed", "batch_size")),
    "evaluate": (mvcore.evaluate, ("train", "metrics", "resources", "seed", "K", "batch_size")),
    "fit_sampler": (mvcore.fit_sampler, ("sampler", "seed")),
    "mcar": (lambda model, rows, **options: mvcore.mcar(rows, **{"rate": 0.3, "seed": 0, **options}), ("rate", "seed")),
    "log_likelihood": (lambda model, rows, **options: model.log_likelihood(rows.batch(), **options), ("K",)),
    "generate": (lambda model, rows, **options: model.generate(**{"n": 2, **options}), ("n", "given", "context")),
    "without": (lambda model, rows, **options: rows.batch().without(**{"names": "a", **options}), ("names",)),
    "split": (lambda model, rows, **options: rows.split(**{"share": 0.5, **options}), ("share", "seed")),
    "hide": (lambda model, rows, **options: rows.hide(**{"mask": None, **options}), ("mask",)),
    "select": (lambda model, rows, index=None: rows.select(index), ("index",)),
}  # fmt: skip


@fuzzed(300)
@given(st.sampled_from(sorted(CALLS)), st.data())
def test_any_arguments_of_what_takes_rows(
    model: mvcore.Model, rows: mvcore.MultimodalDataset, name: str, data: st.DataObject
) -> None:
    call, options = CALLS[name]
    chosen = data.draw(st.dictionaries(st.sampled_from(options), st.one_of(VALUES, arrays()), min_size=1, max_size=2))
    subject = data.draw(st.one_of(st.just(rows), st.just(rows), st.just(rows.batch()), plain_values))
    if name in ("impute", "embed", "evaluate", "fit_sampler"):
        done_or_refused(lambda: call(model, subject, **chosen))
    else:
        done_or_refused(lambda: call(model, rows, **chosen))


OPTIONS = ("epochs", "batch_size", "lr", "seed", "weight_decay", "schedule", "clip_norm", "accumulate", "precision",
           "patience", "resume", "fork", "checkpoint_epochs", "checkpoint_steps", "trackers", "callbacks", "hooks",
           "validation", "accelerator", "rate", "")  # fmt: skip


@fuzzed(150)
@given(st.dictionaries(st.sampled_from(OPTIONS), st.one_of(VALUES, nasty_numbers.filter(lambda v: not 3 < v < 1e12))))
def test_any_options_of_fit(model: mvcore.Model, rows: mvcore.MultimodalDataset, options: dict[str, Any]) -> None:
    if isinstance(options.get("epochs"), (int, float)) and 3 < options["epochs"] <= 1e9:
        options["epochs"] = 1
    done_or_refused(lambda: mvcore.fit(model, rows, **{"epochs": 1, "progress": False, **options}))
