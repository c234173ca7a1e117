"""Small models for tests of laws."""

from __future__ import annotations

from typing import Any

import torch

from mvcore.build import create
from mvcore.data.schema import Schema
from mvcore.models.base import Model

_PARTS = {"input": "none", "target": "none", "encoder.hidden": [7], "decoder.hidden": [7], "decoder.dropout": 0.0}


def small(name: str, schema: Schema, **fields: Any) -> Model:
    """A registered model with two latent dimensions and one hidden layer of 7, in float64, its weights those of seed 0.

    No transforms, and no dropout: what it computes in training mode is a function of its latents' noise alone. Of the
    model ``multimodal`` set ``modality_dropout=0`` for that, too.

    Args:
        name: ``name`` or ``dist:name``; its config is a ``PartsConfig`` whose networks are fully connected.
        schema: The modalities, no images.
        **fields: As for ``mvcore.create``.
    """
    torch.manual_seed(0)
    parts = {f"modalities.{m}.{part}": value for m in schema.names for part, value in _PARTS.items()}
    return create(name, schema, **{"latent_dim": 2, **parts, **fields}).double()
