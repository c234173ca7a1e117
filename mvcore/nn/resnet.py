"""Residual networks for images of any size from 8 × 8, as MMVAE+ and Daunhawer et al. (2022) use them.

References:
    | Which Training Methods for GANs do actually Converge? (Mescheder et al., 2018), whose blocks these are
    | https://arxiv.org/abs/1801.04406
    | On the Limitations of Multimodal VAEs (Daunhawer et al., 2022)
    | https://arxiv.org/abs/2110.04121
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from torch import Tensor, nn
from torch.nn import functional as F

from mvcore.data.schema import ModalitySpec
from mvcore.distributions.encoded import Encoded
from mvcore.nn.conv import image_shape, pyramid
from mvcore.nn.mlp import LatentHead, joined
from mvcore.nn.protocols import Decoder, Encoder
from mvcore.nn.specs import ResNetDecoderConfig, ResNetEncoderConfig

# the reference's slope of the leaky ReLUs and share of a block's branch
_SLOPE = 0.2
_SHARE = 0.1


@final
class ResNetEncoder(nn.Module):
    """A block at full size, then one after each halving by average pooling, then a linear map.

    Args:
        shape: Channels, height and width of the input.
        latent_dim: Dimensions D of the shared latent.
        private_dim: Dimensions of the private latent; 0 for none.
        channels: Channels after each halving.
        context_dim: Number C of covariates, which join the flat features.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        latent_dim: int,
        private_dim: int = 0,
        *,
        channels: Sequence[int] = (64, 128, 256),
        context_dim: int = 0,
    ) -> None:
        super().__init__()
        first = nn.Conv2d(shape[0], channels[0], 3, padding=1)
        stack: list[nn.Module] = [first, ResidualBlock(channels[0], channels[0])]
        for before, after in zip((channels[0], *channels), channels, strict=False):
            stack += [nn.AvgPool2d(3, stride=2, padding=1), ResidualBlock(before, after)]
        self.body = nn.Sequential(*stack, nn.LeakyReLU(_SLOPE), nn.Flatten())
        height, width = pyramid(*shape[1:], channels)[-1]
        self.context_dim = context_dim
        self.head = LatentHead(channels[-1] * height * width + context_dim, latent_dim, private_dim)

    def forward(self, x: Tensor, mask: Tensor | None = None, context: Tensor | None = None) -> Encoded:
        """Encodes images ``x (n, channels, height, width)``; unknown cells are 0 already."""
        encoded: Encoded = self.head(joined(self.body(x), context, self.context_dim))
        return encoded


@final
class ResNetDecoder(nn.Module):
    """The mirror image of ``ResNetEncoder``: ``(n, D)`` → ``(n, P, channels, height, width)``.

    Args:
        latent_dim: Dimensions D of the latents.
        shape: Channels, height and width of an observation.
        n_outputs: Outputs P for each value.
        channels: Channels before each doubling, from the last.
        context_dim: Number C of covariates, which join the latents.
    """

    def __init__(
        self,
        latent_dim: int,
        shape: tuple[int, int, int],
        n_outputs: int = 1,
        *,
        channels: Sequence[int] = (64, 128, 256),
        context_dim: int = 0,
    ) -> None:
        super().__init__()
        sizes = pyramid(*shape[1:], channels)
        self.context_dim, self.shape = context_dim, (n_outputs, *shape)
        self.first = nn.Linear(latent_dim + context_dim, channels[-1] * sizes[-1][0] * sizes[-1][1])
        stack: list[nn.Module] = [nn.Unflatten(1, (channels[-1], *sizes[-1]))]
        widths = (channels[0], *channels)
        for i in range(len(channels), 0, -1):
            stack += [ResidualBlock(widths[i], widths[i - 1]), nn.Upsample(sizes[i - 1])]
        last = nn.Conv2d(channels[0], n_outputs * shape[0], 3, padding=1)
        stack += [ResidualBlock(channels[0], channels[0]), nn.LeakyReLU(_SLOPE), last]
        self.body = nn.Sequential(*stack)

    def forward(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Decodes ``z (n, D)``."""
        outputs: Tensor = self.body(self.first(joined(z, context, self.context_dim))).unflatten(1, self.shape[:2])
        return outputs


@final
class ResidualBlock(nn.Module):
    """``shortcut(x) + 0.1 · branch(x)``, activations before each convolution; no normalisation, so rows are apart."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        hidden = min(before, after)
        self.first = nn.Conv2d(before, hidden, 3, padding=1)
        self.second = nn.Conv2d(hidden, after, 3, padding=1)
        self.shortcut = nn.Identity() if before == after else nn.Conv2d(before, after, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(n, before, height, width)`` to ``(n, after, height, width)``."""
        branch = self.second(F.leaky_relu(self.first(F.leaky_relu(x, _SLOPE)), _SLOPE))
        out: Tensor = self.shortcut(x) + _SHARE * branch
        return out


def build_encoder(
    config: ResNetEncoderConfig, *, modality: ModalitySpec, latent_dim: int, private_dim: int, context_dim: int
) -> Encoder:
    """A residual encoder."""
    shape = image_shape(modality.name, modality.input_shape)
    return ResNetEncoder(shape, latent_dim, private_dim, channels=config.channels, context_dim=context_dim)


def build_decoder(
    config: ResNetDecoderConfig,
    *,
    modality: ModalitySpec,
    latent_dim: int,
    private_dim: int,
    n_outputs: int,
    context_dim: int,
) -> Decoder:
    """A residual decoder."""
    shape = image_shape(modality.name, modality.shape)
    return ResNetDecoder(latent_dim + private_dim, shape, n_outputs, channels=config.channels, context_dim=context_dim)
