"""A model as its config and its weights, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import mvcore
from mvcore import config as configs
from mvcore.data.schema import Schema
from mvcore.errors import ModelFileError, NotPackagedError
from mvcore.options import TrainingRecord
from mvcore.plugins import requires
from mvcore.plugins.registry import Registry
from mvcore.plugins.spec import SamplerConfig
from mvcore.samplers.base import Sampler
from mvcore.storage import blueprint
from mvcore.storage.folder import FORMAT
from mvcore.storage.weights import not_finite, outlines

if TYPE_CHECKING:
    from torch import Tensor

    from mvcore.models.base import Model


def builder_of(config: dict[str, Any]) -> Callable[[], Model]:
    """What builds the model of a saved config, which is checked first.

    Raises:
        MissingPluginError: If plugins that it needs are missing or too old.
        ConfigError: If it does not fit the installed plugins, or asks for more than any model.
    """
    requires.check(config["requires"])
    blueprint.check_extent(config)
    registry = Registry.installed()
    model = configs.structure("model", config["model"], registry)
    schema = configs.structure_as(Schema, config["schema"], registry, path="schema")
    sampler = None if "sampler" not in config else configs.structure("sampler", config["sampler"], registry)
    record = None
    if "training" in config:
        record = configs.structure_as(TrainingRecord, config["training"], registry, path="training")

    def build() -> Model:
        built: Model = registry.build(model, schema)
        if sampler is not None:
            built.sampler = registry.build(sampler, latent_shapes=built.latent_shapes)
        built.record = record
        return built

    return build


def content_of(model: Model) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config and the weights of a model that can be loaded again.

    Raises:
        ModelFileError: If the weights are not finite, or not those that the config builds.
        NotPackagedError: If no installed distribution registers a component.
    """
    if model.unpackaged:
        raise NotPackagedError(*model.unpackaged[0])
    registry, state = Registry.installed(), model.state_dict()
    config = {
        "mvcore": {"format": FORMAT, "version": mvcore.__version__},
        "requires": requires.requirements(model.config, registry),
        "schema": configs.unstructure(model.schema, registry),
        "model": configs.unstructure(model.config, registry),
    }
    if model.sampler is not None:
        config["sampler"] = configs.unstructure(_packaged(model.sampler), registry)
        config["requires"] = requires.requirements((model.config, model.sampler.config), registry)
    if model.record is not None:
        config["training"] = configs.unstructure(model.record, registry)
    if names := not_finite(state):
        raise ModelFileError(
            f"The model was not saved: its weights {some(names)} are no finite numbers. Train it anew with a lower "
            "learning rate, or go on from a checkpoint before."
        )
    precision = blueprint.precision_of(state)
    wanted = blueprint.expected(builder_of(config), outlines(state), precision)
    blueprint.check_matches(wanted, outlines(state), "The model was not saved: it is not what its config builds")
    config["weights"] = {} if precision is None else {"precision": precision}
    return config, {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}


def _packaged(sampler: Sampler) -> SamplerConfig:
    if sampler.config is None:
        raise NotPackagedError(type(sampler).__qualname__, "mvcore.sampler")
    return sampler.config


def some(names: Sequence[str]) -> str:
    """The first three names, and how many more there are."""
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return ", ".join(map(repr, names[:3])) + more
