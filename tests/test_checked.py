"""Settings made by hand: what does not fit is one ConfigError that names the field, in one line each."""

from __future__ import annotations

import copy
import pickle
from abc import ABC
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Literal

import attrs
import numpy as np
import pytest

import mvcore
from mvcore.checked import Checked
from mvcore.data.schema import CovariateSpec, ModalitySpec, Schema
from mvcore.errors import ConfigError, MvcoreError
from mvcore.models.specs import MultimodalVAEConfig
from mvcore.nn.specs import MLPEncoderConfig
from mvcore.options import TrainingConfig
from mvcore.plugins.registry import Registry
from mvcore.plugins.spec import KINDS, LossConfig
from mvcore.runs.run import DataTable

REGISTRY = Registry.installed()
CONFIGS = sorted({REGISTRY.load(e).config for kind in KINDS for e in REGISTRY.entries(kind)}, key=lambda k: k.__name__)


@attrs.frozen(kw_only=True)
class Part(Checked):
    size: int = 1


@attrs.frozen(kw_only=True)
class Whole(LossConfig, Checked, ABC):
    number: float = 1.0
    name: str = "a"
    flag: bool = False
    kind: Literal["x", 1] = "x"
    sizes: tuple[int, ...] = ()
    pair: tuple[int, str] = (1, "a")
    parts: Mapping[str, Part] = attrs.field(factory=dict)
    maybe: Part | None = None
    anything: Any = None


GOOD = [
    {"number": 1}, {"number": np.float32(2)}, {"sizes": [1, 2]}, {"sizes": (np.int64(3),)}, {"kind": 1}, {"kind": "x"},
    {"parts": {"a": Part()}}, {"maybe": Part()}, {"maybe": None}, {"anything": object()}, {"pair": [2, "b"]},
]  # fmt: skip
BAD = [
    ({"number": "1"}, "number: expected float, got '1'"),
    ({"number": True}, "number: expected float, got True"),
    ({"name": 1}, "name: expected str, got 1"),
    ({"name": None}, "name: expected str, got None"),
    ({"flag": 1}, "flag: expected bool, got 1"),
    ({"kind": "y"}, "kind: expected 'x' or 1, got 'y'"),
    ({"kind": True}, "kind: expected 'x' or 1, got True"),
    ({"sizes": 1}, "sizes: expected a tuple of int, got 1"),
    ({"sizes": "12"}, "sizes: expected a tuple of int, got '12'"),
    ({"sizes": (1, 2.5)}, "sizes: expected a tuple of int"),
    ({"pair": (1, 2)}, "pair: expected"),
    ({"pair": (1,)}, "pair: expected"),
    ({"parts": [Part()]}, "parts: expected a table of Part"),
    ({"parts": {1: Part()}}, "parts: expected a table of Part"),
    ({"parts": {"a": {"size": 1}}}, "parts: expected a table of Part"),
    ({"maybe": 5}, "maybe: expected Part or None, got 5"),
    ({"nme": "b"}, "nme: unknown key, did you mean 'name'?"),
    ({"zzz": "b"}, "zzz: unknown key, expected number"),
]  # fmt: skip


@pytest.mark.parametrize("fields", GOOD)
def test_what_fits_is_kept_as_it_is(fields: dict[str, Any]) -> None:
    made = Whole(**fields)
    for name, value in fields.items():
        assert getattr(made, name) is value
    assert attrs.evolve(made) == made
    assert copy.deepcopy(Whole()) == pickle.loads(pickle.dumps(Whole())) == Whole()


@pytest.mark.parametrize(("fields", "message"), BAD)
def test_what_does_not_fit_is_one_line(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Whole(**fields)
    assert caught.value.where == "Whole"
    (problem,) = caught.value.problems
    assert problem.startswith(message)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Whole(number="a", name=5, sizes=7, more=1)  # type: ignore[arg-type, call-arg]
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["more", "number", "name", "sizes"]


@pytest.mark.parametrize(
    "value", [object(), "\x1b[31m", [[["x"]]], {"a": {"b": object()}}, b"x", -1, float("nan"), {}, ()]
)
@pytest.mark.parametrize("config", [*CONFIGS, TrainingConfig, DataTable, ModalitySpec, CovariateSpec])
def test_no_value_of_any_field_is_a_raw_error(config: Callable[..., Any], value: Any) -> None:
    for field in attrs.fields(config):  # type: ignore[arg-type]
        if not field.init:
            continue
        with suppress(MvcoreError):
            config(**{field.alias: value})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TrainingConfig(epochs="3"), "epochs: expected int, got '3'"),
        (lambda: TrainingConfig(epochs=1.5), "epochs: expected int, got 1.5"),
        (lambda: TrainingConfig(epochs=0), "epochs must be in [1, 1e+09], got 0"),
        (lambda: TrainingConfig(schedule="linear"), "'schedule' must be in ('constant', 'cosine'"),
        (lambda: TrainingConfig(1), "takes 1 positional argument"),
        (lambda: MLPEncoderConfig(hidden=5), "hidden: expected a tuple of int, got 5"),
        (lambda: MLPEncoderConfig(hidden=("5",)), "hidden: expected a tuple of int, got ('5',)"),
        (lambda: MLPEncoderConfig(betta=1), "betta: unknown key"),
        (lambda: MultimodalVAEConfig(loss=5), "loss: expected LossConfig, got 5"),
        (lambda: MultimodalVAEConfig(private_dim="a"), "private_dim: expected int or a table of int"),
        (lambda: ModalitySpec(name="a", shape=(2,), categories="x"), "categories: expected int or None"),
        (lambda: ModalitySpec(name="a", shape=(2,), columns=("a", 1)), "columns: expected a tuple of str or None"),
        (lambda: ModalitySpec(name="a"), "missing 1 required keyword-only argument: 'shape'"),
        (lambda: Schema(5), "modalities: expected a tuple of ModalitySpec, got 5"),
        (lambda: Schema(("a",)), "modalities: expected a tuple of ModalitySpec"),
        (lambda: DataTable(), "name one source"),
    ],
)  # fmt: skip
def test_settings_of_the_core_say_what_is_wrong(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2


def test_a_schema_of_a_million_columns_is_checked_soon() -> None:
    names = tuple(f"c{i}" for i in range(1_000_000))
    assert ModalitySpec(name="a", shape=(len(names),), columns=names).columns is names
    with pytest.raises(ConfigError, match="columns: expected"):
        ModalitySpec(name="a", shape=(len(names),), columns=(*names[1:], 5))  # type: ignore[arg-type]


def test_a_fault_deep_in_a_file_has_its_path_once() -> None:
    schema = Schema.from_shapes({"a": (2,)})
    with pytest.raises(ConfigError) as caught:
        mvcore.create("multimodal", schema, **{"prior.family": "laplace", "latent_dim": 2})
    (problem,) = caught.value.problems
    assert problem.startswith("posterior and prior must be of one family")
