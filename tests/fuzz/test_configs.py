"""Configs, options and schemas of any plain values, from files and by hand."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import attrs
import pytest
import torch
from hypothesis import assume, given, strategies as st

import mvcore
from mvcore import config as configs
from mvcore.config.reading import parse_json
from mvcore.data.schema import CovariateSpec, ModalitySpec, Schema
from mvcore.errors import MvcoreError
from mvcore.options import TrainingConfig
from mvcore.plugins.registry import Registry
from mvcore.plugins.spec import KINDS
from mvcore.runs.run import DataTable
from mvcore.testing.fuzz import done_or_refused, fuzzed, mutations, nasty_numbers, nasty_texts, plain_values

REGISTRY = Registry.installed()
SCHEMA = Schema(
    (
        ModalitySpec(name="a", shape=(3,)),
        ModalitySpec(name="b", shape=(2,), likelihood="categorical", categories=3),
        ModalitySpec(name="image", shape=(1, 8, 8), likelihood="bernoulli"),
    )
)
MODELS = {
    entry.id: configs.unstructure(mvcore.create(entry.id, SCHEMA).config, REGISTRY)
    for entry in REGISTRY.entries("model")
}
PLAIN = configs.unstructure(SCHEMA, REGISTRY)


@fuzzed(150)
@given(st.data())
def test_any_config_of_a_model_is_built_or_refused(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(MODELS)))
    plain = data.draw(mutations(MODELS[name]))

    def build() -> None:
        config = configs.structure("model", plain, REGISTRY)
        assert configs.structure("model", configs.unstructure(config, REGISTRY), REGISTRY) == config

    done_or_refused(build)


@fuzzed(60)
@given(st.data())
def test_any_fields_of_create_give_a_model_or_an_error(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(MODELS)))
    known = [*MODELS[name], "loss.beta", "posterior.subsets", "modalities.a.encoder.hidden", "modalities.a.likelihood"]
    key = st.one_of(st.sampled_from(known), nasty_texts)
    fields = data.draw(st.dictionaries(key, plain_values, min_size=1, max_size=3))
    assume(not {"name", "data"} & set(fields))

    def build() -> None:
        with torch.device("meta"):  # whatever size was asked for takes no memory
            mvcore.create(name, SCHEMA, **fields)

    done_or_refused(build)


@fuzzed(200)
@given(st.one_of(plain_values, mutations(PLAIN)))
def test_any_schema_is_read_or_refused(plain: Any) -> None:
    def read() -> None:
        schema = configs.structure_as(Schema, plain, REGISTRY)
        assert configs.structure_as(Schema, json.loads(json.dumps(configs.unstructure(schema))), REGISTRY) == schema

    done_or_refused(read)


@fuzzed(200)
@given(st.sampled_from([ModalitySpec, CovariateSpec, Schema, TrainingConfig, DataTable]), st.data())
def test_classes_of_settings_by_hand(cls: type, data: st.DataObject) -> None:
    names = [field.alias for field in attrs.fields(cls)]
    values = st.one_of(plain_values, st.tuples(plain_values), st.binary(max_size=3), st.just(object()))
    fields = data.draw(st.dictionaries(st.one_of(st.sampled_from(names), nasty_texts), values, max_size=4))
    done_or_refused(lambda: cls(**fields))


@fuzzed(200)
@given(st.sampled_from(sorted(KINDS)), st.data())
def test_configs_of_components_by_hand(kind: str, data: st.DataObject) -> None:
    entries = REGISTRY.entries(kind)
    config = REGISTRY.load(data.draw(st.sampled_from(entries))).config
    names = [field.alias for field in attrs.fields(config)]
    key = st.sampled_from([*names, "other"])
    fields = data.draw(st.dictionaries(key, plain_values, max_size=3))
    done_or_refused(lambda: config(**fields))


@fuzzed(100)
@given(st.one_of(st.sampled_from(sorted(KINDS)), nasty_texts), plain_values)
def test_any_value_for_any_kind(kind: str, value: Any) -> None:
    done_or_refused(lambda: configs.structure(kind, value, REGISTRY))


@fuzzed(100)
@given(st.one_of(nasty_texts, nasty_numbers, st.none()), st.dictionaries(nasty_texts, plain_values, max_size=2))
def test_any_name_of_a_data_set(name: Any, fields: dict[str, Any]) -> None:
    assume("name" not in fields)
    done_or_refused(lambda: mvcore.dataset(name, **fields))


@fuzzed(200)
@given(st.one_of(st.binary(max_size=60), st.text(max_size=60), plain_values.map(lambda v: json.dumps(v))))
def test_json_is_what_json_says_or_refused(content: Any) -> None:
    with contextlib.suppress(ValueError):
        assert json.dumps(parse_json(content)) == json.dumps(json.loads(content))


@pytest.mark.parametrize("wrong", [KeyboardInterrupt, ValueError])
def test_the_suite_lets_no_other_error_pass(wrong: type[BaseException]) -> None:
    def act() -> None:
        raise wrong("x")

    with pytest.raises(wrong):
        done_or_refused(act)


def test_the_suite_finds_long_and_dangerous_texts() -> None:
    class Rude(MvcoreError):
        def __str__(self) -> str:
            return str(self.args[0])

    def act(text: str) -> None:
        raise Rude(text)

    for text in ("\n" * 10, "\x1b[31m", "x" * 20_000, ""):
        with pytest.raises(AssertionError):
            done_or_refused(lambda text=text: act(text))  # type: ignore[misc]
