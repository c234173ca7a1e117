"""A component built by hand has the defaults of its config, and refuses what its config would."""

from __future__ import annotations

import inspect
from typing import Any

import attrs
import pytest

from mvcore.data import ModalitySpec
from mvcore.errors import ConfigError
from mvcore.likelihoods import NormalLikelihood
from mvcore.losses import ELBO, IWAE
from mvcore.nn import MLPDecoder, MLPEncoder
from mvcore.plugins import Entry, Registry
from mvcore.posteriors import ProductOfExperts
from mvcore.priors import StandardPrior

KINDS = ("encoder", "decoder", "likelihood", "posterior", "prior", "loss", "metric")
ENTRIES = [entry for kind in KINDS for entry in Registry.installed().entries(kind) if entry.dist == "mvcore"]
#: Arguments whose names in a constructor differ from the fields', where the component's name says the rest.
RENAMED = {"learn": "learn_scale"}


def built(entry: Entry) -> tuple[Any, Any]:
    """A component's default config, and what its builder makes of it."""
    registry = Registry.installed()
    config = registry.load(entry).config()
    shape = {"conv": (1, 8, 8), "resnet": (1, 8, 8), "conv1d": (1, 8), "conv3d": (1, 8, 8, 8)}.get(entry.name, (3,))
    modality = ModalitySpec(name="a", shape=shape, categories=2 if entry.name == "categorical" else None)
    network = {"modality": modality, "latent_dim": 2, "private_dim": 0, "context_dim": 0}
    whole = {"modalities": [modality], "latent_dim": 2, "private_dims": {}}
    sizes: dict[str, dict[str, Any]] = {
        "encoder": network,
        "decoder": {**network, "n_outputs": 1},
        "likelihood": {"modality": modality},
        **dict.fromkeys(("posterior", "prior", "loss"), whole),
        "metric": {},
    }
    return config, registry.build(config, **sizes[entry.kind])


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry.kind}-{entry.name}")
def test_a_constructor_has_the_defaults_of_its_config(entry: Entry) -> None:
    config, component = built(entry)
    fields = {field.name: getattr(config, field.name) for field in attrs.fields(type(config))}
    for name, parameter in inspect.signature(type(component).__init__).parameters.items():
        if (field := RENAMED.get(name, name)) in fields and parameter.default is not inspect.Parameter.empty:
            assert parameter.default == fields[field], name


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ProductOfExperts(["a"], subsets="observd"), r"subsets: .*'observd'.*did you mean 'observed'"),
        (lambda: ProductOfExperts(["a"], prior_expert="all"), "prior_expert: expected 'none', 'every' or 'full'"),
        (lambda: ProductOfExperts(["a"], family="lapalce"), "family: .*did you mean 'laplace'"),
        (lambda: ProductOfExperts(["a"], scale="exponential"), "scale: expected 'exp' or 'softmax'"),
        (lambda: StandardPrior(2, family="gauss"), "family: expected 'normal' or 'laplace'"),
        (lambda: StandardPrior(2, scale="soft"), "scale: .*did you mean 'softmax'"),
        (lambda: ELBO(kl="montecarlo"), "kl: .*did you mean 'monte_carlo'"),
        (lambda: IWAE(bound="loose"), "bound: .*did you mean 'looser'"),
        (lambda: NormalLikelihood((2,), learn="features"), "learn: .*did you mean 'feature'"),
        (lambda: MLPEncoder((2,), 2, activation="rleu"), "activation: .*did you mean 'relu'"),
        (lambda: MLPDecoder(2, (2,), activation="swish"), "activation: expected 'relu', 'gelu'"),
    ],
)
def test_a_constructor_refuses_a_name_that_means_nothing(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
