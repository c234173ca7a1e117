"""Makes a sampler a part of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import torch

from mvcore import arguments
from mvcore.config.plain import structure
from mvcore.inference.isolation import isolated
from mvcore.plugins.registry import Registry
from mvcore.plugins.spec import SamplerConfig
from mvcore.samplers.base import Sampler

if TYPE_CHECKING:
    from mvcore.data.rows import Rows
    from mvcore.models.base import Model


def fit_sampler(
    model: Model, data: Rows, sampler: str | Mapping[str, Any] | SamplerConfig = "prior", *, seed: int = 0
) -> Sampler:
    """Fits a sampler of the latents of a trained model; ``model.generate`` draws from it and ``save`` keeps it.

    Args:
        model: A trained model. A sampler that it had is replaced; training it on takes the sampler away.
        data: Its training rows.
        sampler: A name, a table with ``use``, or a config.
        seed: Seed of what the fit draws.

    Returns:
        The sampler, ``model.sampler``.

    Raises:
        ConfigError: If no such sampler is installed, or its config does not fit.
    """
    seed, registry = arguments.seed("seed", seed), Registry.installed()
    config = sampler if isinstance(sampler, SamplerConfig) else structure("sampler", sampler, registry)
    built: Sampler = registry.build(cast(SamplerConfig, config), latent_shapes=model.latent_shapes)
    built.to(next(model.parameters(), torch.zeros(())))  # the model's device and precision
    with isolated(model, torch.Generator().manual_seed(seed)), torch.enable_grad():
        built.fit(model, data)
    model.sampler = built.eval()
    return built
