"""Networks of fully connected layers, for tables and any other shape."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import final

import torch
from torch import Tensor, nn

from mvcore.data.schema import ModalitySpec
from mvcore.distributions.encoded import Encoded
from mvcore.errors import DataError
from mvcore.nn.protocols import Decoder, Encoder
from mvcore.nn.specs import Activation, MLPDecoderConfig, MLPEncoderConfig
from mvcore.validators import check_choice

ACTIVATIONS: dict[Activation, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "leaky_relu": nn.LeakyReLU,
}


def layers(
    width: int, hidden: Sequence[int], activation: Activation, layer_norm: bool, dropout: float
) -> tuple[list[nn.Module], int]:
    """Hidden layers and the width of the last."""
    check_choice("activation", activation, ACTIVATIONS)
    stack: list[nn.Module] = []
    for size in hidden:
        stack.append(nn.Linear(width, size))
        stack += [nn.LayerNorm(size)] if layer_norm else []
        stack.append(ACTIVATIONS[activation]())
        stack += [nn.Dropout(dropout)] if dropout else []
        width = size
    return stack, width


def joined(features: Tensor, context: Tensor | None, context_dim: int) -> Tensor:
    """Features ``(n, F)`` with the covariates ``(n, C)`` beside them.

    Raises:
        DataError: If there are others than the network was built for.
    """
    given = 0 if context is None else context.shape[1]
    if given != context_dim:
        raise DataError(
            f"A network was built for {context_dim} values of covariates and got {given}; build it with "
            "context_dim=schema.context_dim, and hand the context of Model.decode on to the decoders."
        )
    return features if context is None else torch.cat([features, context], 1)


@final
class LatentHead(nn.Module):
    """A linear map from features to the parameters of the shared and the private latents, in one product."""

    def __init__(self, width: int, latent_dim: int, private_dim: int = 0) -> None:
        super().__init__()
        self.sizes = (latent_dim, latent_dim, private_dim, private_dim)
        self.linear = nn.Linear(width, sum(self.sizes))

    def forward(self, features: Tensor) -> Encoded:
        """Features ``(n, width)`` to parameters ``(n, D)``."""
        loc, log_scale, private_loc, private_log_scale = self.linear(features).split(self.sizes, dim=1)
        return Encoded(loc, log_scale, private_loc, private_log_scale) if self.sizes[2] else Encoded(loc, log_scale)


@final
class MLPEncoder(nn.Module):
    """A fully connected encoder ``(n, *shape)`` → latent parameters..

    Args:
        shape: Shape of one observation.
        latent_dim: Dimensions D of the shared latent.
        private_dim: Dimensions of the private latent; 0 for none.
        hidden: Widths of the hidden layers.
        activation: A name in ``ACTIVATIONS``.
        layer_norm: Whether each hidden layer is normalised.
        dropout: Share of the hidden units dropped in training.
        context_dim: Number C of covariates, which join the input.
    """

    def __init__(
        self,
        shape: Sequence[int],
        latent_dim: int,
        private_dim: int = 0,
        *,
        hidden: Sequence[int] = (512, 512),
        activation: Activation = "relu",
        layer_norm: bool = False,
        dropout: float = 0.0,
        context_dim: int = 0,
    ) -> None:
        super().__init__()
        body, width = layers(prod(shape) + context_dim, hidden, activation, layer_norm, dropout)
        self.body = nn.Sequential(*body)
        self.head = LatentHead(width, latent_dim, private_dim)
        self.context_dim = context_dim

    def forward(self, x: Tensor, mask: Tensor | None = None, context: Tensor | None = None) -> Encoded:
        """Encodes ``x (n, *shape)``; unknown cells are 0 already."""
        encoded: Encoded = self.head(self.body(joined(x.flatten(1), context, self.context_dim)))
        return encoded


@final
class MLPDecoder(nn.Module):
    """A fully connected decoder ``(n, D)`` → ``(n, P, *shape)``, without an activation at its end."""

    def __init__(
        self,
        latent_dim: int,
        shape: Sequence[int],
        n_outputs: int = 1,
        *,
        hidden: Sequence[int] = (512,),
        activation: Activation = "relu",
        layer_norm: bool = False,
        dropout: float = 0.0,
        context_dim: int = 0,
    ) -> None:
        super().__init__()
        body, width = layers(latent_dim + context_dim, hidden, activation, layer_norm, dropout)
        self.body = nn.Sequential(*body, nn.Linear(width, n_outputs * prod(shape)))
        self.shape, self.context_dim = (n_outputs, *shape), context_dim

    def forward(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Decodes ``z (n, D)``."""
        outputs: Tensor = self.body(joined(z, context, self.context_dim)).unflatten(1, self.shape)
        return outputs


def build_encoder(
    config: MLPEncoderConfig,
    *,
    modality: ModalitySpec,
    latent_dim: int,
    private_dim: int,
    context_dim: int,
) -> Encoder:
    """A fully connected encoder."""
    return MLPEncoder(
        modality.input_shape, latent_dim, private_dim, hidden=config.hidden, activation=config.activation,
        layer_norm=config.layer_norm, dropout=config.dropout, context_dim=context_dim,
    )  # fmt: skip


def build_decoder(
    config: MLPDecoderConfig,
    *,
    modality: ModalitySpec,
    latent_dim: int,
    private_dim: int,
    n_outputs: int,
    context_dim: int,
) -> Decoder:
    """A fully connected decoder."""
    return MLPDecoder(
        latent_dim + private_dim, modality.shape, n_outputs, hidden=config.hidden, activation=config.activation,
        layer_norm=config.layer_norm, dropout=config.dropout, context_dim=context_dim,
    )  # fmt: skip
