"""Positive and bounded numbers: no imputed value outside their support, intervals that hold, and who is told."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import mvcore
from mvcore.data.skew import skewed_columns
from mvcore.errors import ConfigError, DataError

LIMITS = {"crp": (0.0, math.inf), "share": (0.0, 100.0), "ratio": (-1.0, math.inf)}
SHARES = {"target": "logit_standardize(0, 100)", "input": "logit_standardize(0, 100)"}
#: Decoders without dropout, which learned scales would take for noise.
SMALL = {"encoder": {"hidden": [64]}, "decoder": {"hidden": [64], "dropout": 0.0}}
RATIOS = {"target": "log1p_standardize", "input": "log1p_standardize"}


def cohort(n: int, seed: int) -> dict[str, pd.DataFrame]:
    """Log-normal, logit-normal, shifted log-normal and normal columns, and ones of Student's t, of two latents."""
    rng, weights = np.random.default_rng(seed), np.random.default_rng(9)
    z = rng.normal(size=(n, 2))
    u = z @ weights.normal(size=(2, 16)) + 0.6 * rng.normal(size=(n, 16))
    heavy = z @ weights.normal(size=(2, 4)) + 0.4 * rng.standard_t(3, size=(n, 4))
    values = {
        "crp": np.exp(0.8 * u[:, :4]),
        "share": 100 / (1 + np.exp(-u[:, 4:8])),
        "ratio": np.expm1(0.5 * u[:, 8:12]),
        "real": u[:, 12:],
        "heavy": heavy,
    }
    index = [f"p{i}" for i in range(n)]
    return {m: pd.DataFrame(x, index=index, columns=[f"{m}{i}" for i in range(4)]) for m, x in values.items()}


def partial(frames: dict[str, pd.DataFrame], seed: int) -> dict[str, pd.DataFrame]:
    """The same rows, each without three modalities of ten; ``real`` stays where nothing else does."""
    rng = np.random.default_rng(seed)
    kept = {m: rng.random(len(frame)) > 0.3 for m, frame in frames.items()}
    kept["real"] |= ~np.any(list(kept.values()), axis=0)
    return {m: frame.loc[kept[m]] for m, frame in frames.items()}


@pytest.mark.slow
def test_imputed_values_and_limits_lie_in_the_support_and_hold_what_they_promise() -> None:
    train, full = partial(cohort(4000, 0), 1), cohort(2500, 3)
    test, widths = partial(full, 4), {}
    likelihoods = {"crp": "log_normal", "heavy": "student_t"}
    for name, parts, kinds in (
        ("curved", {"share": SHARES, "ratio": RATIOS}, likelihoods),
        ("normal", {m: {"target": "standardize"} for m in ("crp", "ratio")}, {}),
    ):
        data = mvcore.from_frames(train, likelihoods=kinds)
        torch.manual_seed(0)
        modalities = {m: {**parts.get(m, {}), **SMALL} for m in full}
        model = mvcore.create("multimodal", data, latent_dim=8, modalities=modalities, loss={"beta": 0.5})
        run = mvcore.fit(model, data, epochs=40, batch_size=200, progress=False)
        out = mvcore.impute(run.model, mvcore.from_frames(test, schema=model.schema), interval=0.9)
        for m, truth in full.items():
            imputed: Any = out[m]
            hidden = ~truth.index.isin(test[m].index)
            tables = (imputed.low, imputed.high, imputed.filled, truth)
            low, high, filled, x = (table.loc[truth.index[hidden]] for table in tables)
            widths[name, m] = float((high - low).stack().median())
            if name == "curved":
                least, most = LIMITS.get(m, (-math.inf, math.inf))
                assert min(float(f.min().min()) for f in (low, high, filled)) > least
                assert max(float(f.max().max()) for f in (low, high, filled)) < most
                assert float(((x >= low) & (x <= high)).to_numpy().mean()) == pytest.approx(0.9, abs=0.02), m
    assert widths["curved", "crp"] < 0.5 * widths["normal", "crp"]


def skewed(**changes: Any) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    columns = {"crp": np.exp(rng.normal(size=200)), "sodium": 140 + 3 * rng.normal(size=200)}
    return pd.DataFrame({**columns, **changes}, index=[f"p{i}" for i in range(200)])


def test_a_positive_and_skewed_column_is_pointed_out_once_a_model_is_made() -> None:
    data = mvcore.from_frames({"labs": skewed()})
    assert skewed_columns(data, "labs") == ["crp"]
    with pytest.warns(UserWarning, match=r"'crp' of 'labs'.*log_normal") as told:
        mvcore.create("multimodal", data, latent_dim=2)
    assert told[0].filename == __file__


@pytest.mark.parametrize(
    "said",
    [
        {"modalities": {"labs": {"target": "standardize"}}},
        {"modalities.labs.target": "standardize"},
        {"modalities": {"labs": {"target": "log_standardize"}}},
        {"modalities": {"labs": {"likelihood": "log_normal"}}},
        {"modalities": {"labs": {"likelihood": "poisson"}}},
    ],
)
def test_who_says_the_scale_is_not_told(said: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mvcore.create("multimodal", mvcore.from_frames({"labs": skewed()}), latent_dim=2, **said)


@pytest.mark.parametrize(
    "column",
    [
        np.random.default_rng(1).normal(size=200),
        np.exp(np.random.default_rng(1).normal(size=200)) - 0.1,
        140 + np.random.default_rng(1).exponential(size=200),
        np.random.default_rng(1).random(200),
        np.where(np.arange(200) < 30, np.exp(np.random.default_rng(1).normal(size=200)), np.nan),
    ],
    ids=["normal", "negative", "far from 0", "uniform", "few"],
)
def test_other_columns_are_not_pointed_out(column: Any) -> None:
    data = mvcore.from_frames({"labs": skewed(crp=column)})
    assert skewed_columns(data, "labs") == []


@pytest.mark.parametrize(
    ("parts", "value", "message"),
    [
        ({"likelihood": "log_normal"}, 0.0, "above 0; 1 are not, first 0 in the column 'crp' of the row 'p7'"),
        ({"target": "log"}, -2.5, "above 0; 1 are not, first -2.5 in the column 'crp' of the row 'p7'"),
        ({"input": "log"}, 0.0, "the encoder's input.*first 0 in the column 'crp' of the row 'p7'"),
        ({"target": "logit(0, 500)"}, 500.0, "below 500; 1 are not, first 500 in the column 'crp' of the row 'p7'"),
        ({"target": "log1p"}, -1.0, "above -1; 1 are not, first -1 in the column 'crp' of the row 'p7'"),
    ],
)
def test_a_value_outside_is_named_with_its_row_and_column(parts: Any, value: float, message: str) -> None:
    frame = skewed()
    frame.loc["p7", "crp"] = value
    frame = frame.drop(index=["p2", "p3"])
    data = mvcore.from_frames({"labs": frame, "age": pd.DataFrame({"age": range(1, 201)}, index=skewed().index)})
    said = parts if "likelihood" in parts else {"target": "standardize", **parts}
    model = mvcore.create("multimodal", data, latent_dim=2, modalities={"labs": said})
    with pytest.raises(DataError, match=message):
        mvcore.fit(model, data, epochs=1, progress=False)


def test_unknown_cells_of_positive_columns_are_no_values_outside() -> None:
    frame = skewed()
    frame.iloc[::3, 0] = None
    data = mvcore.from_frames({"labs": frame}, likelihoods={"labs": "log_normal"})
    run = mvcore.fit(mvcore.create("multimodal", data, latent_dim=2), data, epochs=2, progress=False)
    out = mvcore.impute(run.model, data, interval=0.9)["labs"]
    assert bool((out.low > 0).all().all())
    assert np.isfinite(run.model.log_likelihood(data.batch(), 10).numpy()).all()


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"likelihood": "laplace", "target": "log"}, "mean is known after 'log'"),
        ({"likelihood": "log_normal", "target": "standardize"}, "scale of logarithms"),
        ({"likelihood": "log_normal", "target": "logit(0, 1)"}, "mean is known after 'logit'"),
        ({"likelihood": "poisson", "target": "log"}, "mean is known after 'log'"),
        ({"target": "logit(1, 0)"}, "low below high"),
        ({"input": "log2"}, "did you mean 'log'"),
    ],
)
def test_scales_that_do_not_fit_are_refused_when_the_model_is_made(parts: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        mvcore.create("multimodal", mvcore.Schema.from_shapes({"labs": (2,)}), modalities={"labs": parts})


@pytest.mark.parametrize("scale", ["log", "log_standardize", "log1p_standardize", "logit(0, 1000)"])
def test_a_model_with_a_curve_comes_back_from_its_folder(scale: str, tmp_path: Any) -> None:
    data = mvcore.from_frames({"labs": skewed()})
    parts = {"labs": {"target": scale, "input": scale}}
    run = mvcore.fit(mvcore.create("multimodal", data, latent_dim=2, modalities=parts), data, epochs=1, progress=False)
    again = mvcore.load(mvcore.save(run.model, tmp_path / "model"))
    batch = data.batch()
    assert torch.equal(again.log_likelihood(batch, 5), run.model.log_likelihood(batch, 5))
