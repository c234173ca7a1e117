"""Convolutional networks for images of any size from 8 × 8."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from torch import Tensor, nn

from mvcore.data.schema import ModalitySpec
from mvcore.distributions.encoded import Encoded
from mvcore.errors import ConfigError
from mvcore.nn.mlp import LatentHead, joined
from mvcore.nn.protocols import Decoder, Encoder
from mvcore.nn.specs import ConvDecoderConfig, ConvEncoderConfig


def pyramid(height: int, width: int, channels: Sequence[int]) -> list[tuple[int, int]]:
    """Sizes of the feature maps after each halving, rounded up."""
    sizes = [(height, width)]
    for _ in channels:
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    return sizes


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

    Covariates join the flat features.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        latent_dim: int,
        private_dim: int = 0,
        *,
        channels: Sequence[int],
        context_dim: int = 0,
    ) -> None:
        super().__init__()
        widths = (shape[0], *channels)
        last = pyramid(*shape[1:], channels)[-1]
        stack: list[nn.Module] = []
        for i, size in enumerate(pyramid(*shape[1:], channels)[:-1]):
            # odd sizes get one more row or column of zeros, so that each map is half of the last, rounded up
            stack.append(nn.ZeroPad2d((1, 1 + size[1] % 2, 1, 1 + size[0] % 2)))
            stack += [nn.Conv2d(widths[i], widths[i + 1], 4, stride=2), nn.ReLU()]
        self.body = nn.Sequential(*stack, nn.Flatten())
        self.head = LatentHead(widths[-1] * last[0] * last[1] + context_dim, latent_dim, private_dim)
        self.context_dim = context_dim

    def forward(self, x: Tensor, mask: Tensor | None = None, context: Tensor | None = None) -> Encoded:
        """Encodes images ``x (n, channels, height, width)``; unknown cells are 0 already."""
        encoded: Encoded = self.head(joined(self.body(x), context, self.context_dim))
        return encoded


@final
class ConvDecoder(nn.Module):
    """The mirror image of ``ConvEncoder``: ``(n, D)`` → ``(n, P, channels, height, width)``."""

    def __init__(
        self,
        latent_dim: int,
        shape: tuple[int, int, int],
        n_outputs: int = 1,
        *,
        channels: Sequence[int],
        context_dim: int = 0,
    ) -> None:
        super().__init__()
        sizes = pyramid(*shape[1:], channels)
        widths = (n_outputs * shape[0], *channels)
        size = widths[-1] * sizes[-1][0] * sizes[-1][1]
        stack: list[nn.Module] = [nn.Linear(latent_dim + context_dim, size), nn.ReLU()]
        stack.append(nn.Unflatten(1, (widths[-1], *sizes[-1])))
        for i in range(len(channels), 0, -1):
            stack.append(nn.ConvTranspose2d(widths[i], widths[i - 1], 4, stride=2, padding=1))
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

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return x[..., : self.size[0], : self.size[1]]


def build_encoder(
    config: ConvEncoderConfig,
    *,
    modality: ModalitySpec,
    latent_dim: int,
    private_dim: int,
    context_dim: int,
) -> Encoder:
    """A convolutional encoder."""
    shape = image_shape(modality.name, modality.input_shape)
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
    shape = image_shape(modality.name, modality.shape)
    return ConvDecoder(latent_dim + private_dim, shape, n_outputs, channels=config.channels, context_dim=context_dim)
