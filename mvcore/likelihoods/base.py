"""Likelihoods p(x_m | z): a likelihood turns a decoder's outputs into a distribution over observations.

Outputs are ``(..., P, *shape)`` with ``P = n_outputs``; the ``Observation`` has batch shape ``(...)`` and its
``log_prob`` sums over the observation's values, in nats, leaving out those that a mask calls unknown.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import final

from torch import Tensor, nn

from mvcore.data.transforms import Affine, Bent
from mvcore.distributions.diagonal import full
from mvcore.likelihoods.observations import Observation
from mvcore.nn.protocols import Decoder
from mvcore.nn.trial import as_module


class Likelihood(nn.Module, ABC):
    """Base of the likelihoods: a module whose call turns a decoder's outputs into an ``Observation``.

    Args:
        shape: Shape of one observation.
    """

    n_outputs: int = 1
    """Outputs P that a decoder gives for each value."""
    neutral: float = 0.0
    """A value that ``check`` finds no fault with; it stands in for unknown cells."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    @abstractmethod
    def forward(self, outputs: Tensor) -> Observation:
        """The distribution for a decoder's ``outputs (..., P, *shape)``."""

    def check(self, x: Tensor) -> str | None:
        """Why the observations ``x`` can't be scored, or None; asked once for each data set."""
        return None

    def first(self, outputs: Tensor) -> Tensor:
        """The first output, ``(..., *shape)``."""
        dim = -len(self.shape) - 1
        # the gradient of a select writes zeros and copies; that of a squeeze does neither
        return outputs.squeeze(dim) if outputs.shape[dim] == 1 else outputs.select(dim, 0)


@final
class LikelihoodDecoder(nn.Module):
    """A decoder network with its likelihood and the scale on which the modality is modelled.

    Args:
        network: A module from ``(n, D)`` and the covariates ``(n, C)``, None where the schema has none, to
            ``(n, P, *shape)``, P the likelihood's ``n_outputs``.
        likelihood: The likelihood.
        target: The transform on whose scale the likelihood works; None for data units.
    """

    def __init__(self, network: Decoder, likelihood: Likelihood, target: Affine | Bent | None = None) -> None:
        super().__init__()
        self.network = as_module("The decoder network", network)
        self.likelihood, self.target = likelihood, target

    def forward(self, z: Tensor, context: Tensor | None = None) -> Observation:
        """The distribution ``(...)`` over observations in data units given ``z (..., D)``; networks see (n, D).

        Args:
            z: The latents.
            context: The covariates ``(..., C)``; None where the schema has none.
        """
        told = None if context is None else context.flatten(0, -2)
        outputs = full(self.network(z.flatten(0, -2), told))
        observation: Observation = self.likelihood(outputs.unflatten(0, z.shape[:-1]))
        return observation if self.target is None else observation.in_data_units(self.target)
