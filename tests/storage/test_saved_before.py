"""Models saved by earlier versions load, and say what they said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import mvcore

SAVED = Path(__file__).parent / "saved"


@pytest.mark.parametrize("name", ["multimodal"])
def test_a_model_saved_before_loads_and_embeds_as_it_did(name: str) -> None:
    """``saved/multimodal`` was written by the first format, its embeddings beside it by the version that wrote it."""
    model = mvcore.load(SAVED / name)
    record = json.loads((SAVED / f"{name}.json").read_text())
    x = {m: torch.tensor(values) for m, values in record["x"].items()}
    batch = mvcore.Batch.from_dense(x, {m: torch.tensor(mask) for m, mask in record["masks"].items()})
    torch.testing.assert_close(model.embed(batch), torch.tensor(record["embed"]))
