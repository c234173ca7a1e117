"""Values that no float32 arithmetic can take are refused by row and column, where they enter or would show."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import mvcore
from mvcore.data.dataset import MultimodalDataset
from mvcore.errors import DataError
from mvcore.models.base import Model
from mvcore.plugins.registry import Registry

MODELS = [entry.name for entry in Registry.installed().entries("model")]
IDS = [f"p{i}" for i in range(30)]


def labs() -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(0).normal(size=(30, 2)), columns=["crp", "ldl"], index=IDS)


def data(frame: pd.DataFrame) -> MultimodalDataset:
    other = labs().rename(columns={"crp": "u", "ldl": "v"})[5:]
    return mvcore.from_frames({"labs": frame[:25], "rna": other})


def trained(name: str) -> Model:
    torch.manual_seed(0)
    model = mvcore.create(name, data(labs()), latent_dim=2)
    return mvcore.fit(model, data(labs()), epochs=2, progress=False).model


@pytest.mark.parametrize("value", [-3.4e38, 1e36, np.inf])
def test_a_number_that_arithmetic_would_overflow_is_named_by_row_and_column(value: float) -> None:
    frame = labs()
    frame.loc["p7", "ldl"] = value
    with pytest.raises(DataError, match=r"'labs' has values .* in the columns 'ldl', such as .* in the row 'p7'"):
        data(frame)
    with pytest.raises(DataError, match=r"'labs' has .*values.* in 1 observed rows, first in number 8 .* of row 7"):
        MultimodalDataset({"labs": frame.to_numpy()})


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("value", [1e4, 1e20, 1e31])
def test_a_value_far_from_all_training_rows_gives_finite_answers_or_is_named(name: str, value: float) -> None:
    model, frame = trained(name), labs()
    frame.loc["p7", "ldl"] = value
    given = data(frame)
    for ask in (
        lambda: [mvcore.embed(model, given)],
        lambda: [
            t for p in mvcore.impute(model, given, K=19, interval=0.9).values() for t in (p.filled, p.low, p.high)
        ],
        lambda: [pd.DataFrame(v.flatten(1).numpy()) for v in model.impute(given.batch(), K=3).values()],
    ):
        try:
            assert all(np.isfinite(table.to_numpy()).all() for table in ask())
        except DataError as error:
            assert "Row 7" in str(error)  # noqa: PT017
            assert f"its value {value:g} of 'labs', column 'ldl'" in str(error)  # noqa: PT017


def test_intervals_of_femtomolar_concentrations_are_as_wide_as_the_values() -> None:
    """The same column in fM and in mol/l: everything in the second is 1e-15 of the first."""
    widths = []
    for unit in (1.0, 1e-15):
        given = data(labs() * [unit, 1.0])
        torch.manual_seed(0)
        model = mvcore.fit(mvcore.create("multimodal", given, latent_dim=2), given, epochs=2, progress=False).model
        out = mvcore.impute(model, given, interval=0.8, K=49)["labs"]
        widths.append((out.high - out.low)["crp"][25:].to_numpy(float) / unit)
    np.testing.assert_allclose(widths[0], widths[1], rtol=1e-3)
