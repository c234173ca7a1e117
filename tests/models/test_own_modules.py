"""Torch modules of a caller's own: any model takes them, they train and go on, and saving says how to package them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mvcore
from mvcore.distributions import Encoded
from mvcore.errors import DataError, NotPackagedError
from mvcore.plugins.registry import Registry

#: With private latents these have a network for each latent.
BUILDS_ITS_OWN = ("dvcca",)
MODELS = [entry.name for entry in Registry.installed().entries("model")]


def rows(n: int = 60, **more: Any) -> mvcore.MultimodalDataset:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(n, 2))
    image = np.tanh(z @ rng.normal(size=(2, 64)) + 0.1 * rng.normal(size=(n, 64))).reshape(n, 1, 8, 8)
    masks = {"image": np.arange(n) % 4 != 0, "table": np.arange(n) % 4 != 1}
    return mvcore.MultimodalDataset({"image": image, "table": z @ rng.normal(size=(2, 5))}, masks, **more)


class Told(nn.Module):
    """An encoder that is called with all that a model knows."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 2 * latent_dim)

    def forward(self, x: Tensor, mask: Tensor | None, context: Tensor | None) -> Encoded:
        return Encoded(*self.linear(x.flatten(1)).chunk(2, dim=1))


def features() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 3, 4, stride=2), nn.ReLU(), nn.Flatten())


def decoder(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, 20), nn.ReLU(), nn.Linear(20, 64))


@pytest.mark.parametrize("name", MODELS)
def test_every_model_trains_with_own_networks_on_partial_rows(name: str) -> None:
    data, own = rows(), features()
    config = Registry.installed().spec("model", name).config()
    private = 2 if "private_dim" in repr(config) and name not in BUILDS_ITS_OWN else 0
    fields = {"latent_dim": 3} | ({"private_dim": private} if private else {})
    try:
        model = mvcore.create(name, data, modules={"image": (own, None)}, **fields)
    except mvcore.ConfigError:
        model = mvcore.create(name, data, modules={"image": (own, None)}, latent_dim=3)
    before = own[0].weight.detach().clone()
    run = mvcore.fit(model, data, epochs=2, batch_size=16, progress=False)
    assert not torch.equal(own[0].weight, before)
    assert run.model.embed(data.batch().only(["image"])).isfinite().all()
    assert any(part is own for part in model.modules())


def test_own_networks_learn_and_the_same_ones_train_alike() -> None:
    data, found = rows(), []
    for _ in range(2):
        torch.manual_seed(1)
        pair = Told(2), decoder(2)
        model = mvcore.create("multimodal", data, seed=3, latent_dim=2, modules={"image": pair})
        found.append(mvcore.fit(model, data, epochs=60, progress=False).history)
    assert found[0] == found[1]
    assert found[0][-1]["loss"] < 0.9 * found[0][0]["loss"]


def test_a_training_with_own_networks_is_gone_on_with_bit_by_bit(tmp_path: Path) -> None:
    data = rows()

    class Stop:
        @mvcore.hookimpl
        def mvcore_epoch_end(self, row: Any) -> None:
            if row["epoch"] == 1:
                raise mvcore.StopTraining

    def model() -> mvcore.Model:
        torch.manual_seed(5)
        return mvcore.create("multimodal", data, latent_dim=2, modules={"image": (features(), decoder(2))})

    whole = mvcore.fit(model(), data, epochs=4, progress=False)
    mvcore.fit(model(), data, epochs=4, progress=False, checkpoint=tmp_path, callbacks=[Stop()])
    again = mvcore.fit(model(), data, epochs=4, progress=False, checkpoint=tmp_path, resume=True)
    assert again.history == whole.history
    for name, value in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value)


@pytest.mark.parametrize("pair", [(features(), None), (None, decoder(2))])
def test_what_cannot_be_saved_says_how_to_package_it(pair: Any, tmp_path: Path) -> None:
    model = mvcore.create("multimodal", rows(), latent_dim=2, modules={"image": pair})
    kind = "encoder" if pair[0] is not None else "decoder"
    with pytest.raises(NotPackagedError, match=rf"Sequential, the {kind} of 'image', .*'mvcore.{kind}'.*template"):
        mvcore.save(model, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_covariates_and_outputs_reach_plain_networks() -> None:
    data = rows(context={"age": np.linspace(20, 80, 60)})
    parts = {"image": {"likelihood": {"use": "normal", "learn_scale": "predicted"}}}
    both = nn.Sequential(nn.Linear(2 + 1, 2 * 64))
    model = mvcore.create("multimodal", data, latent_dim=2, modalities=parts, modules={"image": (features(), both)})
    run = mvcore.fit(model, data, epochs=1, progress=False)
    assert run.model.impute(data.batch(), K=2)["image"].shape == (60, 1, 8, 8)


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ({"sound": (None, None)}, "'sound', which is no modality"),
        ({"image": features()}, r"must be a pair \(encoder, decoder\)"),
        ({"image": (features(),)}, r"must be a pair \(encoder, decoder\)"),
        ({"image": ("conv", None)}, "must be a torch.nn.Module; got 'conv'"),
        ([features()], "must map modalities to pairs"),
        ({"image": (nn.Linear(9, 3), None)}, r"can't be called with an observation of shape \(1, 8, 8\)"),
        ({"image": (nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64)), None)}, "BatchNorm"),
        ({"image": (None, nn.Linear(2, 63))}, r"of shape \('n', 1, 1, 8, 8\)"),
        ({"image": (Told(3), None)}, r"loc of shape \('n', 2\)"),
    ],
)
def test_modules_that_do_not_fit_are_refused_when_the_model_is_made(modules: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        mvcore.create("multimodal", rows(), latent_dim=2, modules=modules)


def test_a_seed_of_create_gives_the_weights_and_leaves_the_generator() -> None:
    data = rows()
    torch.manual_seed(11)
    state = torch.get_rng_state()
    one = mvcore.create("multimodal", data, seed=4)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(4)
    other = mvcore.create("multimodal", data)
    for name, value in one.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)
    with pytest.raises(DataError, match="seed must be at least 0"):
        mvcore.create("multimodal", data, seed=-1)
