"""What the networks of a modality answer. Both are modules; mypy checks what a builder returns against them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from mvcore.distributions.encoded import Encoded


class Encoder(Protocol):
    """A module for q(z_m | x_m) of one modality."""

    def forward(self, x: Tensor, mask: Tensor | None, context: Tensor | None) -> Encoded:
        """Encodes n observations, n = 0 included.

        Args:
            x: ``(n, *shape)`` after the input transform; 0 in unknown cells.
            mask: Which cells are known, of the shape of the observations; None where all are.
            context: The covariates of the rows ``(n, C)``; None where the schema has none.
        """
        ...


class Decoder(Protocol):
    """A module for the outputs from which a likelihood makes p(x_m | z)."""

    def forward(self, z: Tensor, context: Tensor | None) -> Tensor:
        """Decodes n latents, n = 0 included.

        Args:
            z: ``(n, D + D_m)``.
            context: As of an encoder.

        Returns:
            The outputs ``(n, P, *shape)``, P the likelihood's ``n_outputs``.
        """
        ...
