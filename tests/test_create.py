"""``mvcore.create`` and ``mvcore.dataset``: fields by path, and every mistake named with the nearest right answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import mvcore
from mvcore.data.dataset import MultimodalDataset
from mvcore.data.schema import ModalitySpec, Schema
from mvcore.errors import ConfigError, DataError, UnknownComponentError
from mvcore.likelihoods.specs import LaplaceConfig
from mvcore.losses.specs import DReGConfig, IWAEConfig
from mvcore.nn.specs import MLPEncoderConfig

SCHEMA = Schema.from_shapes({"image": (1, 8, 8), "labs": (5,)})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"latent_dim": 0}, "latent_dim: latent_dim must be greater than 0, got 0"),
        ({"latent_dim": -3}, "greater than 0, got -3"),
        ({"latent_dim": "20"}, "latent_dim: expected int, got '20'"),
        ({"latent_dim": 20.0}, "latent_dim: expected int, got 20.0"),
        ({"latent_dim": True}, "latent_dim: expected int, got True"),
        ({"latent_dims": 20}, "latent_dims: unknown key, did you mean 'latent_dim'"),
        ({"loss.betta": 2.0}, "loss.betta: unknown key, did you mean 'beta'"),
        ({"los.beta": 2.0}, "los: unknown key, did you mean 'loss'"),
        ({"loss.beta": -1.0}, "beta must be 0 or greater, got -1.0"),
        ({"loss.beta": float("nan")}, "expected a finite float, got nan"),
        ({"loss": "elbow"}, "No loss is named 'elbow'. Did you mean 'elbo'"),
        ({"loss": "mlp"}, "No loss is named 'mlp'"),
        ({"posterior.subsets": "each_"}, "did you mean 'each'"),
        ({"posterior": {"use": "product", "family": "laplace"}}, "a product of Laplace experts is not Laplace"),
        ({"modalities.imag.likelihood": "laplace"}, "modalities.imag: unknown key, did you mean 'image'"),
        ({"modalities": {"imag": {"likelihood": "laplace"}}}, "modalities.imag: unknown key, did you mean 'image'"),
        ({"modalities.image.encoder.chanels": [4]}, "did you mean 'channels'"),
        ({"modalities.image.encoder.channels": [4, 0]}, "positive widths"),
        ({"modalities.image.weight": 0.0}, "weight must be greater than 0"),
        ({"modalities.labs.encoder": {"use": "mlp", "dropout": 1.0}}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"private_dim": -1}, "private_dim must be 0 or greater"),
        ({"private_dim": {"lab": 2}}, "private_dim: unknown modality 'lab'"),
    ],
)
def test_a_wrong_field_is_named_with_its_path_and_the_nearest_right_one(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        mvcore.create("multimodal", SCHEMA, **fields)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        mvcore.create("multimodal", SCHEMA, latent_dim="8", **{"loss.betta": 1.0, "posterior.subsets": "none"})
    assert len(error.value.problems) == 3


def test_an_unknown_model_or_data_set_is_named_with_the_nearest() -> None:
    with pytest.raises(UnknownComponentError, match=r"No model is named 'multimodel'. Did you mean 'multimodal'\?"):
        mvcore.create("multimodel", SCHEMA)
    with pytest.raises(UnknownComponentError, match="Did you mean 'miniacc'"):
        mvcore.dataset("minacc")
    with pytest.raises(ConfigError, match="did you mean 'log1p'"):
        mvcore.dataset("miniacc", log1=True)


@pytest.mark.parametrize(
    ("shape", "message"), [(5, r"such as \(5,\)"), ((), "at least one dimension"), ((-1,), "positive")]
)
def test_a_scalar_shape_is_refused(shape: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        mvcore.create("multimodal", Schema.from_shapes({"a": shape}))


def test_a_likelihood_that_is_not_installed_is_named() -> None:
    schema = Schema((ModalitySpec(name="a", shape=(2,), likelihood="weibull"),))
    with pytest.raises(ConfigError, match=r"modalities.a.likelihood\n  No likelihood is named 'weibull'"):
        mvcore.create("multimodal", schema)
    words = Schema((ModalitySpec(name="a", shape=(2,), likelihood="categorical"),))
    with pytest.raises(ConfigError, match="needs the schema to say how many categories"):
        mvcore.create("multimodal", words)


def test_fields_reach_the_parts_that_their_paths_name() -> None:
    model = mvcore.create(
        "multimodal",
        SCHEMA,
        latent_dim=7,
        private_dim={"labs": 2},
        modalities={"labs": {"likelihood": {"use": "laplace", "scale": 0.75}, "encoder.hidden": [9]}},
        loss="iwae",
        **{"loss.samples": 4, "modalities.image.encoder": "mlp", "modalities.image.weight": "dimension"},
    )
    config: Any = model.config
    assert config.latent_dim == 7
    assert config.loss == IWAEConfig(samples=4)
    assert not isinstance(config.loss, DReGConfig)
    assert config.modalities["labs"].likelihood == LaplaceConfig(scale=0.75)
    assert config.modalities["labs"].encoder == MLPEncoderConfig(
        hidden=(9,),
        activation="silu",
        layer_norm=True,  # the default parts of a table, one field changed
    )
    assert config.modalities["image"].encoder == MLPEncoderConfig()
    assert model.modality_weights == {"image": 1.0, "labs": 1.0}  # 64 values are the most, so 64 / 64
    assert model.private_dims == {"labs": 2}
    other = mvcore.create("multimodal", SCHEMA, **{"modalities.labs.weight": "dimension"})
    assert other.modality_weights["labs"] == 64 / 5


def test_an_edit_leaves_the_other_defaults() -> None:
    plain: Any = mvcore.create("multimodal", SCHEMA).config
    changed: Any = mvcore.create("multimodal", SCHEMA, modalities={"image": {"likelihood": "bernoulli"}}).config
    assert changed.modalities["labs"] == plain.modalities["labs"]
    assert changed.modalities["image"].encoder == plain.modalities["image"].encoder


def test_a_data_set_and_its_schema_make_the_same_model() -> None:
    data = MultimodalDataset({"a": np.zeros((4, 3)), "b": np.array([[0], [1], [2], [2]])})
    one, other = mvcore.create("multimodal", data), mvcore.create("mvcore:multimodal", data.schema)
    assert one.config == other.config
    assert one.schema == data.schema


@pytest.mark.parametrize("likelihood", ["bernoulli", "categorical", "negative_binomial"])
def test_values_that_cannot_be_rescaled_refuse_a_target_scale(likelihood: str) -> None:
    schema = mvcore.Schema.from_shapes({"a": (3,)})
    with pytest.raises(ConfigError, match="target must be 'none'"):
        mvcore.create("multimodal", schema, modalities={"a": {"likelihood": likelihood, "target": "standardize"}})


def test_a_table_changes_a_part_and_one_with_use_replaces_it():
    data = Schema.from_shapes({"a": (3,), "b": (2,)})
    changed = mvcore.create(
        "multimodal", data, loss={"beta": 2.5}, modalities={"a": {"encoder": {"hidden": [7]}}}
    ).config
    assert (changed.loss.beta, changed.loss.kl) == (2.5, "convex")
    assert (changed.modalities["a"].encoder.hidden, changed.modalities["b"].encoder.hidden) == ((7,), (512, 512))
    replaced = mvcore.create("multimodal", data, loss={"use": "iwae", "samples": 3}).config
    assert replaced.loss == IWAEConfig(samples=3)
    with pytest.raises(ConfigError, match="betta: unknown key, did you mean 'beta'"):
        mvcore.create("multimodal", data, loss={"betta": 1.0})


def test_a_likelihood_that_the_caller_names_brings_its_own_defaults_and_the_schema_says_so() -> None:
    data = MultimodalDataset({"genes": np.arange(12.0).reshape(6, 2), "labs": np.ones((6, 3))})
    model: Any = mvcore.create("multimodal", data, modalities={"genes": {"likelihood": "poisson"}})
    genes = model.config.modalities["genes"]
    assert (genes.input, genes.target) == ("log1p_standardize", "none")  # a standardised count is none
    assert [m.likelihood for m in model.schema] == ["poisson", "normal"]
    by_path: Any = mvcore.create("multimodal", data, **{"modalities.genes.likelihood": {"use": "poisson"}})
    assert by_path.config == model.config
