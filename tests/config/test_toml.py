"""TOML for people: its tables, and faults with file and line."""

import json
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from mvcore.config.plain import edit, read_toml, structure, unstructure
from mvcore.errors import ConfigError
from mvcore.plugins.registry import Entry, Registry

REGISTRY = Registry.installed()


def test_a_config_is_read_from_toml(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('[loss]\nuse = "elbo"\nbeta = 2\n', encoding="utf-8")
    config = structure("loss", read_toml(tmp_path / "run.toml")["loss"])
    assert config == edit(REGISTRY.spec("loss", "elbo").config(), {"beta": 2.0})


@pytest.mark.parametrize(
    ("text", "fault"), [(b"a = 1\nb = \n", r"run\.toml\n.*line 2"), (b"a = '\xff'", r"run\.toml\n.*utf-8")]
)
def test_what_is_no_toml_is_told_with_file_and_line(text: bytes, fault: str, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_bytes(text)
    with pytest.raises(ConfigError, match=fault):
        read_toml(tmp_path / "run.toml")
    with pytest.raises(ConfigError, match="there is no file"):
        read_toml(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ({"use": "elbo", "betta": 1.0}, "betta: unknown key, did you mean 'beta'"),
        ({"use": "ebo"}, "No loss is named 'ebo'. Did you mean 'elbo'"),
    ],
)
def test_a_misspelt_key_or_component_is_told_with_the_nearest(table: dict[str, object], fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        structure("loss", table)


@pytest.mark.parametrize(
    "entry",
    [entry for entry in REGISTRY.entries() if entry.dist == "mvcore"],
    ids=lambda entry: f"{entry.kind}-{entry.id}",
)
def test_the_defaults_of_every_component_of_the_core_survive_json(entry: Entry) -> None:
    config = REGISTRY.load(entry).config()
    assert structure(entry.kind, json.loads(json.dumps(unstructure(config, REGISTRY))), REGISTRY) == config


@given(
    beta=st.floats(0, 1e300, allow_subnormal=True),
    warmup=st.floats(0, 1e300),
    samples=st.integers(1, 10**12),
    stratified=st.booleans(),
    kl=st.sampled_from(["convex", "monte_carlo"]),
)
def test_any_elbo_survives_json(**fields: object) -> None:
    config = REGISTRY.spec("loss", "elbo").config(**fields)  # type: ignore[call-arg]
    assert structure("loss", json.loads(json.dumps(unstructure(config, REGISTRY))), REGISTRY) == config
