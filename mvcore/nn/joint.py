"""The joint encoder q(z | X) of complete rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor, nn

from mvcore.distributions.diagonal import DiagonalNormal, full
from mvcore.distributions.encoded import Encoded
from mvcore.nn.mlp import MLPEncoder
from mvcore.nn.protocols import Encoder
from mvcore.nn.trial import as_module


@final
class JointEncoder(nn.Module):
    """An MLP over all modalities: tables as they are, anything else through a network of its own.

    Args:
        sizes: For each modality the number of values that enter the MLP: those of a table, or twice the ``loc`` that
            its network gives.
        networks: Encoders, whose ``loc`` and ``log_scale`` are the features, of the modalities that are no tables.
        latent_dim: Dimensions D of the latent.
        hidden: Widths of the MLP's hidden layers.
        context_dim: Number C of covariates, which enter the networks and the MLP.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        networks: Mapping[str, Encoder],
        latent_dim: int,
        hidden: Sequence[int] = (512, 512),
        *,
        context_dim: int = 0,
    ) -> None:
        super().__init__()
        self.names = tuple(sizes)
        self.networks = nn.ModuleDict(
            {m: as_module(f"The encoder of {m!r}", e, ("x", "mask", "context")) for m, e in networks.items()}
        )
        self.head = MLPEncoder((sum(sizes.values()),), latent_dim, hidden=hidden, context_dim=context_dim)

    def forward(
        self, x: Mapping[str, Tensor], known: Mapping[str, Tensor], context: Tensor | None = None
    ) -> DiagonalNormal:
        """The posteriors ``(n, D)`` of n complete rows.

        Args:
            x: For each modality the encoder's input ``(n, *input_shape)``, unknown cells 0 already.
            known: Masks of the known cells, where there are unknown ones.
            context: The covariates of the rows ``(n, C)``, where the schema has some.
        """
        features = [self._features(m, x[m], known.get(m), context) for m in self.names]
        encoded: Encoded = self.head(torch.cat(features, 1), None, context)
        return DiagonalNormal(full(encoded.loc), full(encoded.log_scale))

    def _features(self, name: str, x: Tensor, known: Tensor | None, context: Tensor | None) -> Tensor:
        if name not in self.networks:
            return x.flatten(1)
        encoded: Encoded = self.networks[name](x, known, context)
        return torch.cat([encoded.loc, encoded.log_scale], 1)
