"""What a training notes in its model: counts and settings, none of the data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import mvcore
from mvcore.data.dataset import MultimodalDataset
from mvcore.models.base import Model
from mvcore.options import Pattern


def data_of(masks: dict[str, list[bool]]) -> MultimodalDataset:
    n = len(next(iter(masks.values())))
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=(n, 1)) for name in masks}
    return MultimodalDataset(arrays, {name: np.array(mask) for name, mask in masks.items()})


def model_of(data: MultimodalDataset) -> Model:
    small = {f"modalities.{m}.{part}.hidden": [2] for m in data.schema.names for part in ("encoder", "decoder")}
    return mvcore.create("multimodal", data, latent_dim=1, **small)


DATA = data_of({"a": [True, True, True, False], "b": [True, False, True, True]})


def test_it_says_which_rows_and_which_options() -> None:
    model = model_of(DATA)
    assert model.record is None
    run = mvcore.fit(model, DATA, validation=DATA.select([0, 3]), epochs=3, batch_size=2, seed=7, progress=False)
    record = model.record
    assert record is not None
    assert (record.rows, record.validation_rows, record.epochs, record.stopped) == (4, 2, 3, False)
    assert set(record.patterns) == {
        Pattern(modalities=("a", "b"), rows=2), Pattern(modalities=("a",), rows=1), Pattern(modalities=("b",), rows=1),
    }  # fmt: skip
    assert record.patterns[0].rows == 2
    assert record.loss == run.history[-1]["loss"]
    assert {name: record.options[name] for name in ("epochs", "batch_size", "seed")} == {
        "epochs": 3, "batch_size": 2, "seed": 7,
    }  # fmt: skip


def test_it_is_saved_and_a_new_training_writes_it_anew(tmp_path: Path) -> None:
    model = mvcore.fit(model_of(DATA), DATA, epochs=1, progress=False).model
    again = mvcore.load(mvcore.save(model, tmp_path / "model"))
    assert again.record == model.record
    mvcore.fit(again, DATA.select([0, 1]), epochs=2, progress=False)
    assert again.record is not None
    assert (again.record.rows, again.record.epochs) == (2, 2)


def test_rare_patterns_are_counted_together() -> None:
    """All sets of seven modalities but the empty one, once each, and one of them twice: 128 rows, 127 patterns."""
    sets = [[bool(code >> m & 1) for m in range(7)] for code in [*range(1, 128), 5]]
    data = data_of({f"m{m}": [row[m] for row in sets] for m in range(7)})
    model = mvcore.fit(model_of(data), data, epochs=1, progress=False).model
    assert model.record is not None
    assert len(model.record.patterns) == 100
    assert model.record.patterns[0] == Pattern(modalities=("m0", "m2"), rows=2)
    assert model.record.other_rows == 128 - 101


class Until:
    """Stops a training after a step."""

    def __init__(self, step: int) -> None:
        self.left = step

    @mvcore.hookimpl
    def mvcore_step_end(self) -> None:
        self.left -= 1
        if not self.left:
            raise mvcore.StopTraining


@pytest.mark.parametrize("steps", [1, 3])
def test_a_training_that_a_hook_stops_says_so(steps: int) -> None:
    model = model_of(DATA)
    mvcore.fit(model, DATA, epochs=5, batch_size=2, progress=False, callbacks=[Until(steps)])
    assert model.record is not None
    assert model.record.stopped
    assert model.record.epochs == steps // 2  # two steps an epoch
    assert (model.record.loss is None) == (steps == 1)
