"""Small models to share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import mvcore
from mvcore.data.dataset import MultimodalDataset
from mvcore.models.base import Model


@pytest.fixture(scope="session")
def rows() -> MultimodalDataset:
    """Rows of which none has both images and words."""
    rng = np.random.default_rng(0)
    n = 24
    return MultimodalDataset(
        {
            "a": rng.normal(size=(n, 3)),
            "bits": rng.integers(0, 2, size=(n, 4)),
            "image": rng.random(size=(n, 1, 8, 8)),
            "word": np.arange(n).repeat(2).reshape(n, 2) % 3,
        },
        {"image": np.arange(n) % 2 == 0, "word": np.arange(n) % 2 == 1, "bits": np.arange(n) % 3 > 0},
        likelihoods={"bits": "bernoulli"},
    )


@pytest.fixture(scope="session")
def small() -> dict[str, Any]:
    """Fields of a model of few weights."""
    return {
        "latent_dim": 2,
        **{f"modalities.{m}.{part}.hidden": [4] for m in ("a", "bits", "word") for part in ("encoder", "decoder")},
        **{f"modalities.image.{part}.channels": [2] for part in ("encoder", "decoder")},
    }


@pytest.fixture
def model(rows: MultimodalDataset, small: dict[str, Any]) -> Model:
    """A model that was not trained."""
    torch.manual_seed(0)
    return mvcore.create("multimodal", rows, **small)


@pytest.fixture
def trained(model: Model, rows: MultimodalDataset) -> Model:
    """A model after two epochs."""
    return mvcore.fit(model, rows, epochs=2, batch_size=8, progress=False).model


@pytest.fixture(scope="session")
def _files(
    rows: MultimodalDataset, small: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        folder = mvcore.save(mvcore.create("multimodal", rows, **small), tmp_path_factory.mktemp("saved") / "model")
    mvcore.load(folder)  # what the first load imports is then imported
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def files(_files: dict[str, bytes]) -> dict[str, bytes]:
    """The files of the model, saved."""
    return dict(_files)
