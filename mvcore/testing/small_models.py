"""Small models for tests of laws."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from mvcore.build import create
from mvcore.data.schema import Schema
from mvcore.models.base import Model
from mvcore.models.specs import PartsConfig
from mvcore.plugins.registry import Registry

_PARTS = {"input": "none", "target": "none", "encoder.hidden": [7], "decoder.hidden": [7], "decoder.dropout": 0.0}


def small(name: str, schema: Schema, **fields: Any) -> Model:
    """A registered model with two latent dimensions and one hidden layer of 7, in float64, its weights those of seed 0.

    No transforms, and no dropout: what it computes in training mode is a function of its latents' noise alone. Of the
    model ``multimodal`` set ``modality_dropout=0`` for that, too.

    Args:
        name: ``name`` or ``dist:name``; the networks of a ``PartsConfig`` must be fully connected, any other config is
            as its fields make it.
        schema: The modalities, no images.
        **fields: As for ``mvcore.create``.
    """
    torch.manual_seed(0)
    return create(name, schema, **{**small_fields(name, schema, _PARTS), **fields}).double()


def small_fields(name: str, schema: Schema, parts: Mapping[str, Any]) -> dict[str, Any]:
    """Two latent dimensions and the same parts for every modality; nothing for a config that has none of both."""
    if not issubclass(Registry.installed().spec("model", name).config, PartsConfig):
        return {}
    each = {f"modalities.{m}.{part}": value for m in schema.names for part, value in parts.items()}
    return {"latent_dim": 2, **each}
