"""Configs and specs of the core's encoders and decoders."""

from __future__ import annotations

from typing import ClassVar, Literal

from attrs import field, frozen

from mvcore.plugins.spec import ComponentSpec, DecoderConfig, EncoderConfig
from mvcore.validators import all_positive, share, widths

Activation = Literal["relu", "gelu", "silu", "tanh", "leaky_relu"]


@frozen(kw_only=True)
class MLPEncoderConfig(EncoderConfig):
    """A fully connected encoder."""

    hidden: tuple[int, ...] = field(default=(512, 512), validator=all_positive)
    """Widths of the hidden layers."""
    activation: Activation = "relu"
    """Activation after each hidden layer."""
    layer_norm: bool = False
    """Whether each hidden layer is normalised before its activation."""
    dropout: float = field(default=0.0, validator=share)
    """Share of the hidden units dropped in training."""


@frozen(kw_only=True)
class MLPDecoderConfig(DecoderConfig):
    """A fully connected decoder."""

    hidden: tuple[int, ...] = field(default=(512,), validator=all_positive)
    """Widths of the hidden layers."""
    activation: Activation = "relu"
    """Activation after each hidden layer."""
    layer_norm: bool = False
    """Whether each hidden layer is normalised before its activation."""
    dropout: float = field(default=0.0, validator=share)
    """Share of the hidden units dropped in training."""


@frozen(kw_only=True)
class ConvEncoderConfig(EncoderConfig):
    """Convolutions of kernel 4 and stride 2, for images of any size from 8 × 8."""

    dims: ClassVar[int] = 2

    channels: tuple[int, ...] = field(default=(32, 64, 128), validator=all_positive)
    """Channels after each halving of the image."""


@frozen(kw_only=True)
class ConvDecoderConfig(DecoderConfig):
    """Transposed convolutions of kernel 4 and stride 2, for images of any size from 8 × 8."""

    dims: ClassVar[int] = 2

    channels: tuple[int, ...] = field(default=(32, 64, 128), validator=all_positive)
    """Channels before each doubling of the image, from the last."""


@frozen(kw_only=True)
class Conv1dEncoderConfig(ConvEncoderConfig):
    """Convolutions of kernel 4 and stride 2, for signals ``(channels, length)`` of any size."""

    dims: ClassVar[int] = 1

    channels: tuple[int, ...] = field(default=(32, 64, 128), validator=all_positive)
    """Channels after each halving of the signal."""


@frozen(kw_only=True)
class Conv1dDecoderConfig(ConvDecoderConfig):
    """Transposed convolutions of kernel 4 and stride 2, for signals ``(channels, length)`` of any size."""

    dims: ClassVar[int] = 1

    channels: tuple[int, ...] = field(default=(32, 64, 128), validator=all_positive)
    """Channels before each doubling of the signal, from the last."""


@frozen(kw_only=True)
class Conv3dEncoderConfig(ConvEncoderConfig):
    """Convolutions of kernel 4 and stride 2, for volumes ``(channels, depth, height, width)`` of any size."""

    dims: ClassVar[int] = 3

    channels: tuple[int, ...] = field(default=(16, 32, 64), validator=all_positive)
    """Channels after each halving of the volume."""


@frozen(kw_only=True)
class Conv3dDecoderConfig(ConvDecoderConfig):
    """Transposed convolutions of kernel 4 and stride 2, for volumes of any size."""

    dims: ClassVar[int] = 3

    channels: tuple[int, ...] = field(default=(16, 32, 64), validator=all_positive)
    """Channels before each doubling of the volume, from the last."""


@frozen(kw_only=True)
class ResNetEncoderConfig(EncoderConfig):
    """Residual blocks, for images of any size from 8 × 8."""

    channels: tuple[int, ...] = field(default=(64, 128, 256), validator=widths)
    """Channels after each halving of the image; the first block, before any, has those of the first."""


@frozen(kw_only=True)
class ResNetDecoderConfig(DecoderConfig):
    """Residual blocks, for images of any size from 8 × 8."""

    channels: tuple[int, ...] = field(default=(64, 128, 256), validator=widths)
    """Channels before each doubling of the image, from the last."""


mlp_encoder = ComponentSpec(
    api=1,
    config=MLPEncoderConfig,
    build="mvcore.nn.mlp:build_encoder",
    summary="Fully connected encoder",
)
mlp_decoder = ComponentSpec(
    api=1,
    config=MLPDecoderConfig,
    build="mvcore.nn.mlp:build_decoder",
    summary="Fully connected decoder",
)
conv_encoder = ComponentSpec(
    api=1,
    config=ConvEncoderConfig,
    build="mvcore.nn.conv:build_encoder",
    summary="Convolutional encoder for images",
)
conv_decoder = ComponentSpec(
    api=1,
    config=ConvDecoderConfig,
    build="mvcore.nn.conv:build_decoder",
    summary="Convolutional decoder for images",
)
conv1d_encoder = ComponentSpec(
    api=1,
    config=Conv1dEncoderConfig,
    build="mvcore.nn.conv:build_encoder",
    summary="Convolutional encoder for signals",
)
conv1d_decoder = ComponentSpec(
    api=1,
    config=Conv1dDecoderConfig,
    build="mvcore.nn.conv:build_decoder",
    summary="Convolutional decoder for signals",
)
conv3d_encoder = ComponentSpec(
    api=1,
    config=Conv3dEncoderConfig,
    build="mvcore.nn.conv:build_encoder",
    summary="Convolutional encoder for volumes",
)
conv3d_decoder = ComponentSpec(
    api=1,
    config=Conv3dDecoderConfig,
    build="mvcore.nn.conv:build_decoder",
    summary="Convolutional decoder for volumes",
)
resnet_encoder = ComponentSpec(
    api=1,
    config=ResNetEncoderConfig,
    build="mvcore.nn.resnet:build_encoder",
    summary="Residual encoder for images",
    paper="https://arxiv.org/abs/1801.04406",
)
resnet_decoder = ComponentSpec(
    api=1,
    config=ResNetDecoderConfig,
    build="mvcore.nn.resnet:build_decoder",
    summary="Residual decoder for images",
    paper="https://arxiv.org/abs/1801.04406",
)
