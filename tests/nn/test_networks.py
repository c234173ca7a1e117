"""The networks: any size, no rows, one row, and a gradient to each parameter."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import mvcore
from mvcore.data.schema import CovariateSpec, Schema
from mvcore.errors import ConfigError, DataError
from mvcore.nn.conv import ConvDecoder, ConvEncoder, pyramid
from mvcore.nn.mlp import MLPDecoder, MLPEncoder
from mvcore.nn.resnet import ResidualBlock, ResNetDecoder, ResNetEncoder

D, P = 3, 2
IMAGES = [(1, 8, 8), (3, 28, 28), (2, 9, 13), (3, 32, 32)]
CASES: list[Any] = [
    *[pytest.param(kind, shape, id=f"{kind}-{shape}") for kind in ("mlp", "conv", "resnet") for shape in IMAGES],
    pytest.param("mlp", (7,), id="mlp-(7,)"),
    pytest.param("mlp", (2, 3), id="mlp-(2, 3)"),
    pytest.param("linear", (7,), id="linear-(7,)"),
    pytest.param("regularised", (7,), id="regularised-(7,)"),
    pytest.param("deep conv", (1, 8, 8), id="deep conv-(1, 8, 8)"),
    pytest.param("deep conv", (1, 9, 13), id="deep conv-(1, 9, 13)"),
]


def networks(kind: str, shape: tuple[int, ...], private: int = 0) -> tuple[nn.Module, nn.Module]:
    more: dict[str, Any]
    if kind == "resnet":
        assert len(shape) == 3
        more = {"channels": (3, 4)}
        return ResNetEncoder(shape, D, private, **more), ResNetDecoder(D + private, shape, P, **more)
    if "conv" in kind:
        assert len(shape) == 3
        channels = (4, 5, 6, 7, 8) if kind == "deep conv" else (4, 5, 6)
        return (
            ConvEncoder(shape, D, private, channels=channels),
            ConvDecoder(D + private, shape, P, channels=channels),
        )
    more = {
        "mlp": {"hidden": (11, 10)},
        "linear": {"hidden": ()},
        "regularised": {"hidden": (11,), "layer_norm": True, "dropout": 0.2, "activation": "gelu"},
    }[kind]
    return MLPEncoder(shape, D, private, **more), MLPDecoder(D + private, shape, P, **more)


@pytest.mark.parametrize(("kind", "shape"), CASES)
@pytest.mark.parametrize("n", [0, 1, 4])
@pytest.mark.parametrize("private", [0, 2])
def test_any_size_and_any_number_of_rows_reach_every_parameter(
    kind: str, shape: tuple[int, ...], n: int, private: int
) -> None:
    encoder, decoder = networks(kind, shape, private)
    encoded = encoder(torch.randn(n, *shape))
    assert encoded.loc.shape == encoded.log_scale.shape == (n, D)
    outputs = [encoded.loc, encoded.log_scale]
    if private:
        assert encoded.private_loc.shape == encoded.private_log_scale.shape == (n, private)
        outputs += [encoded.private_loc, encoded.private_log_scale]
    else:
        assert encoded.private_loc is None
        assert encoded.private_log_scale is None
    decoded = decoder(torch.randn(n, D + private))
    assert decoded.shape == (n, P, *shape)
    (sum((o.square() * torch.randn_like(o)).sum() for o in outputs) + decoded.square().sum()).backward()
    for name, parameter in [*encoder.named_parameters(), *decoder.named_parameters()]:
        assert parameter.grad is not None, name
        assert n == 0 or bool(parameter.grad.any()), name
        assert parameter.grad.isfinite().all()


@pytest.mark.parametrize(("kind", "shape"), CASES)
def test_a_row_is_encoded_and_decoded_as_it_is_alone(kind: str, shape: tuple[int, ...]) -> None:
    encoder, decoder = (network.eval() for network in networks(kind, shape))
    x, z = torch.randn(3, *shape), torch.randn(3, D)
    for i in range(3):
        torch.testing.assert_close(encoder(x).loc[i], encoder(x[i : i + 1]).loc[0])
        torch.testing.assert_close(decoder(z)[i], decoder(z[i : i + 1])[0])


@pytest.mark.parametrize(("kind", "shape"), [c for c in CASES if "conv" in c.id or "resnet" in c.id])
def test_every_pixel_is_seen_and_painted(kind: str, shape: tuple[int, ...]) -> None:
    encoder, decoder = networks(kind, shape)
    # along random directions, so that no pixel's effect cancels or hides behind an inactive unit in all of them
    x = torch.randn(20, *shape, requires_grad=True)
    (gradient,) = torch.autograd.grad((encoder(x).loc * torch.randn(20, D)).sum(), x)
    assert bool((gradient.abs().sum(0) > 0).all())
    painted = decoder(torch.randn(200, D)).std(0)
    assert bool((painted > 0).all())


@pytest.mark.parametrize("kind", ["mlp", "conv", "resnet"])
def test_covariates_join_every_network_and_are_asked_for(kind: str) -> None:
    schema = Schema(Schema.from_shapes({"a": (2, 9, 8)}).modalities, (CovariateSpec(name="age", shape=(3,)),))
    model = mvcore.create("multimodal", schema, latent_dim=2, modalities={"a": {"encoder": kind, "decoder": kind}})
    encoder, decoder = model.encoders["a"], model.decoders["a"].network
    x, z = torch.randn(4, 2, 9, 8), torch.randn(4, 2)
    context = torch.randn(4, 3, requires_grad=True)
    for output in (encoder(x, None, context).loc, decoder(z, context)):
        (gradient,) = torch.autograd.grad(output.square().sum(), context)
        assert bool(gradient.any())
    assert encoder(x[:0], None, context[:0]).loc.shape == (0, 2)
    assert decoder(z[:0], context[:0]).shape == (0, 1, 2, 9, 8)
    with pytest.raises(DataError, match=r"built for 3 values of covariates and got 0"):
        decoder(z)
    with pytest.raises(DataError, match=r"built for 3 values of covariates and got 2"):
        encoder(x, None, context[:, :2])


def test_a_residual_block_is_its_shortcut_and_a_tenth_of_its_branch() -> None:
    block = ResidualBlock(2, 2)
    nn.init.dirac_(block.first.weight)
    nn.init.dirac_(block.second.weight)
    for convolution in (block.first, block.second):
        nn.init.zeros_(convolution.bias)
    x = torch.randn(3, 2, 5, 4)
    # with identities for convolutions the branch is the leaky ReLU of slope 0.2, twice
    torch.testing.assert_close(block(x), x + 0.1 * x.where(x > 0, 0.04 * x))


def test_an_image_of_categories_gets_networks_that_fit_it() -> None:
    data = mvcore.MultimodalDataset({"map": torch.randint(0, 3, (4, 1, 9, 8))})
    model = mvcore.create("multimodal", data, latent_dim=2)
    assert model(data.batch()).loss.isfinite()


def test_each_map_is_half_of_the_last_rounded_up() -> None:
    assert pyramid(28, 9, (1, 1, 1)) == [(28, 9), (14, 5), (7, 3), (4, 2)]


@pytest.mark.parametrize("shape", [(28, 28), (1, 7, 28), (3, 28, 28, 28), (9,)])
@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_what_is_no_image_is_refused_by_name(shape: tuple[int, ...], part: str) -> None:
    schema = Schema.from_shapes({"scan": shape})
    with pytest.raises(ConfigError, match=r"of at least 8 × 8 pixels; 'scan' has .*Use 'mlp'"):
        mvcore.create("multimodal", schema, **{f"modalities.scan.{part}": "conv"})


def test_an_images_default_is_convolutional_and_fits_its_size() -> None:
    schema = Schema.from_shapes({"a": (1, 9, 13), "b": (3, 28, 28), "small": (1, 7, 9)})
    model = mvcore.create("multimodal", schema, latent_dim=2)
    assert isinstance(model.encoders["a"], ConvEncoder)
    assert isinstance(model.decoders["b"].network, ConvDecoder)
    assert isinstance(model.encoders["small"], MLPEncoder)
    batch = mvcore.Batch.from_dense({m.name: torch.randn(2, *m.shape) for m in schema})
    assert {m: v.shape for m, v in model.impute(batch.only(["a"]), K=2).items()} == {
        m.name: (2, *m.shape) for m in schema
    }
