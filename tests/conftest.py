"""What the core's tests share: a seed for each, and models of the linear-Gaussian reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mvcore.models.multimodal import MultimodalVAE
from mvcore.nn.mlp import MLPEncoder
from mvcore.posteriors.product import ProductOfExperts
from mvcore.posteriors.specs import PriorExpert, Subsets
from mvcore.testing.hub import StandInHub
from mvcore.testing.linear import LinearGaussian

Compose = Callable[..., MultimodalVAE]


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    """A seed for each test, and the global random state put back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture
def world() -> LinearGaussian:
    return LinearGaussian({"a": 5, "b": 6, "c": 4}, 2)


@pytest.fixture
def compose() -> Compose:
    """Models with a world's exact decoders and its exact experts, or any (random networks), in float64."""

    def make(
        world: LinearGaussian,
        loss: torch.nn.Module | None = None,
        *,
        experts: Literal["likelihood", "posterior", "any"] = "any",
        subsets: Subsets = "observed",
        prior_expert: PriorExpert = "none",
        **more: Any,
    ) -> MultimodalVAE:
        D, private = world.latent_dim, world.private_dims
        if experts == "any":
            encoders: Any = {
                m.name: MLPEncoder(m.shape, D, private.get(m.name, 0), hidden=(7,), activation="tanh").double()
                for m in world.schema
            }
        else:
            encoders = world.encoders(experts)
        return MultimodalVAE(
            world.schema,
            latent_dim=D,
            encoders=encoders,
            decoders=world.decoders(),
            posterior=ProductOfExperts(world.schema.names, subsets=subsets, prior_expert=prior_expert),
            loss=loss,
            private_dims=private,
            **more,
        ).double()

    return make


class Largest(TorchDispatchMode):
    """The most values of any tensor that an operation gives inside it."""

    values = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, Tensor):
                self.values = max(self.values, tensor.numel())
        return out


@pytest.fixture
def largest() -> Largest:
    """Watches the operations of a ``with`` block."""
    return Largest()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInHub]:
    """The Hub of this process, with an empty cache; who asks is ann."""
    from huggingface_hub import constants

    with StandInHub() as stand_in:
        template = stand_in.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", stand_in.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the stand-in stores large files by LFS
        monkeypatch.setenv("HF_TOKEN", "hf_ann")
        yield stand_in
