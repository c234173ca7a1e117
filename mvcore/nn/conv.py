"""Convolutional networks for images of any size from 8 × 8, signals and volumes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, final

from torch import Tensor, nn

from mvcore.data.schema import ModalitySpec
from mvcore.distributions.encoded import Encoded
from mvcore.errors import ConfigError
from mvcore.nn.mlp import LatentHead, joined
from mvcore.nn.protocols import Decoder, Encoder
from mvcore.nn.specs import ConvDecoderConfig, ConvEncoderConfig

_CONVOLUTIONS: tuple[Any, ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED: tuple[Any, ...] = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_PADS: tuple[Any, ...] = (nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d)


def pyramid(height: int, width: int, channels: Sequence[int]) -> list[tuple[int, int]]:
    """Sizes of the feature maps of an image after each halving, rounded up."""
    return [(size[0], size[1]) for size in halved((height, width), channels)]


def halved(size: Sequence[int], channels: Sequence[int]) -> list[tuple[int, ...]]:
    """Sizes of the feature maps after each halving, rounded up, in any number of dimensions."""
    sizes = [tuple(size)]
    for _ in channels:
        sizes.append(tuple((s + 1) // 2 for s in sizes[-1]))
    return sizes


def grid_shape(name: str, shape: Sequence[int], dims: int) -> tuple[int, ...]:
    """The shape of a signal or a volume, channels first; a ConfigError for any other."""
    if len(shape) != dims + 1:
        axes = {1: "channels, length", 3: "channels, depth, height, width"}[dims]
        raise ConfigError(
            [f"a convolutional network in {dims} dimensions needs observations of shape ({axes}); {name!r} has "
             f"{tuple(shape)!r}"]
        )  # fmt: skip
    return tuple(shape)


def image_shape(name: str, shape: Sequence[int]) -> tuple[int, int, int]:
    """Channels, height and width of an image of at least 8 × 8; a ConfigError for any other shape."""
    if len(shape) != 3 or min(shape[1:]) < 8:
        raise ConfigError(
            [
                f"a convolutional network needs images of shape (channels, height, width) of at least 8 × 8 pixels; "
                f"{name!r} has {tuple(shape)!r}. Use 'mlp'."
            ]
        )
    return shape[0], shape[1], shape[2]


@final
class ConvEncoder(nn.Module):
    """Convolutions of kernel 4 and stride 2, one for each entry of ``channels``, then a linear map.

    Observations are ``(channels, *size)`` in one, two or three dimensions. Covariates join the flat features.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        latent_dim: int,
        private_dim: int = 0,
        *,
        channels: Sequence[int],
        context_dim: int = 0,
    ) -> None:
        super().__init__()
        widths, dims = (shape[0], *channels), len(shape) - 2
        sizes = halved(shape[1:], channels)
        stack: list[nn.Module] = []
        for i, size in enumerate(sizes[:-1]):
            # odd sizes get one more row or column of zeros, so that each map is half of the last, rounded up
            stack.append(_PADS[dims](tuple(pad for s in reversed(size) for pad in (1, 1 + s % 2))))
            stack += [_CONVOLUTIONS[dims](widths[i], widths[i + 1], 4, stride=2), nn.ReLU()]
        self.body = nn.Sequential(*stack, nn.Flatten())
        self.head = LatentHead(widths[-1] * prod(sizes[-1]) + context_dim, latent_dim, private_dim)
        self.context_dim = context_dim

    def forward(self, x: Tensor, mask: Tensor | None = None, context: Tensor | None = None) -> Encoded:
        """Encodes ``x (n, channels, *size)``; unknown cells are 0 already."""
        encoded: Encoded = self.head(joined(self.body(x), context, self.context_dim))
        return encoded


@final
class ConvDecoder(nn.Module):
    """The mirror image of ``ConvEncoder``: ``(n, D)`` → ``(n, P, channels, *size)``."""

    def __init__(
        self,
        latent_dim: int,
        shape: tuple[int, ...],
        n_outputs: int = 1,
        *,
        channels: Sequence[int],
        context_dim: int = 0,
    ) -> None:
        super().__init__()
        sizes, dims = halved(shape[1:], channels), len(shape) - 2
        widths = (n_outputs * shape[0], *channels)
        size = widths[-1] * prod(sizes[-1])
        stack: list[nn.Module] = [nn.Linear(latent_dim + context_dim, size), nn.ReLU()]
        stack.append(nn.Unflatten(1, (widths[-1], *sizes[-1])))
        for i in range(len(channels), 0, -1):
            stack.append(_TRANSPOSED[dims](widths[i], widths[i - 1], 4, stride=2, padding=1))
            stack.append(_Crop(sizes[i - 1]))  # twice the size of a map that was rounded up is one too large
            stack += [nn.ReLU()] if i > 1 else []
        self.body = nn.Sequential(*stack)
        self.shape, self.context_dim = (n_outputs, *shape), context_dim

    def forward(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Decodes ``z (n, D)``."""
        outputs: Tensor = self.body(joined(z, context, self.context_dim)).unflatten(1, self.shape[:2])
        return outputs


@final
class _Crop(nn.Module):
    """Cuts a map to an odd size."""

    def __init__(self, size: tuple[int, ...]) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        for dim, size in enumerate(reversed(self.size), start=1):
            x = x.narrow(-dim, 0, size)
        return x


def build_encoder(
    config: ConvEncoderConfig,
    *,
    modality: ModalitySpec,
    latent_dim: int,
    private_dim: int,
    context_dim: int,
) -> Encoder:
    """A convolutional encoder."""
    shape = _shape(config.dims, modality.name, modality.input_shape)
    return ConvEncoder(shape, latent_dim, private_dim, channels=config.channels, context_dim=context_dim)


def build_decoder(
    config: ConvDecoderConfig,
    *,
    modality: ModalitySpec,
    latent_dim: int,
    private_dim: int,
    n_outputs: int,
    context_dim: int,
) -> Decoder:
    """A convolutional decoder."""
    shape = _shape(config.dims, modality.name, modality.shape)
    return ConvDecoder(latent_dim + private_dim, shape, n_outputs, channels=config.channels, context_dim=context_dim)


def _shape(dims: int, name: str, shape: Sequence[int]) -> tuple[int, ...]:
    return image_shape(name, shape) if dims == 2 else grid_shape(name, shape, dims)
