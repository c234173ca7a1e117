"""Every registered component's config goes through JSON and comes back equal, whatever its fields hold."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from mvcore import config as configs
from mvcore.data.schema import Schema
from mvcore.options import TrainingConfig
from mvcore.plugins.registry import Entry, Registry
from mvcore.testing import strategies

REGISTRY = Registry.installed()


@pytest.mark.parametrize("entry", REGISTRY.entries(), ids=lambda entry: f"{entry.kind}-{entry.id}")
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(data=st.data())
def test_a_config_comes_back_from_json_as_it_was(entry: Entry, data: st.DataObject) -> None:
    config = data.draw(strategies.configs(REGISTRY.load(entry).config))
    text = json.dumps(configs.unstructure(config, REGISTRY))
    assert configs.structure(entry.kind, json.loads(text), REGISTRY) == config


@settings(max_examples=50, deadline=None, derandomize=True)
@given(options=strategies.configs(TrainingConfig))
def test_training_options_come_back_from_json_as_they_were(options: TrainingConfig) -> None:
    text = json.dumps(configs.unstructure(options, REGISTRY))
    assert configs.structure_as(TrainingConfig, json.loads(text), REGISTRY) == options


@settings(max_examples=50, deadline=None, derandomize=True)
@given(data=st.data())
def test_schemas_come_back_from_json_as_they_were(data: st.DataObject) -> None:
    sizes = st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple)
    names = st.text("abcé_0", min_size=1, max_size=4)
    schema = Schema.from_shapes(data.draw(st.dictionaries(names, sizes, min_size=1, max_size=3)))
    text = json.dumps(configs.unstructure(schema, REGISTRY))
    assert configs.structure_as(Schema, json.loads(text), REGISTRY) == schema


def test_the_strategy_reaches_values_other_than_the_defaults() -> None:
    """A strategy that only ever drew defaults would let any round trip pass."""
    seen: set[float] = set()

    @settings(max_examples=30, deadline=None, derandomize=True, database=None)
    @given(config=strategies.configs(REGISTRY.spec("loss", "mvcore:elbo").config))
    def collect(config: object) -> None:
        seen.add(config.beta)  # type: ignore[attr-defined]

    collect()
    assert len(seen) > 10
