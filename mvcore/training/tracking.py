"""Trackers, through accelerate: there or refused, told of the options, closed whatever happens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import attrs
from accelerate import Accelerator

from mvcore import config as configs
from mvcore.errors import MissingExtraError
from mvcore.models.base import Model
from mvcore.options import TrainingConfig

#: The modules of a tracker, any of which will do.
_MODULES = {"tensorboard": ("tensorboardX", "tensorboard"), "mlflow": ("mlflow",), "wandb": ("wandb",)}


def check_trackers(names: tuple[str, ...]) -> None:
    """Refuses a tracker whose package is not installed; accelerate would leave it out.

    Raises:
        MissingExtraError: If there is such a one.
    """
    for name in names:
        if not any(find_spec(module) for module in _MODULES[name]):
            raise MissingExtraError(name, name, f"The tracker {name!r}")


@contextmanager
def tracked(accelerator: Accelerator, model: Model, options: TrainingConfig) -> Iterator[None]:
    """Inside, the trackers of the options get each epoch's row."""
    if not options.trackers:
        yield
        return
    accelerator.init_trackers("mvcore", _told(model, options))
    try:
        yield
    finally:
        if accelerator.is_main_process:
            for tracker in accelerator.trackers:
                tracker.finish()


def _told(model: Model, options: TrainingConfig) -> dict[str, Any]:
    """What a tracker is told of the training: options, and the model's config by dotted names."""
    config = {} if model.config is None else configs.unstructure(model.config)
    told = {**attrs.asdict(options), **dict(_flat(config, "model"))}
    return {k: v if isinstance(v, (bool, int, float, str)) else str(v) for k, v in told.items() if v is not None}


def _flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _flat(part, f"{path}.{name}")
    else:
        yield path, value
