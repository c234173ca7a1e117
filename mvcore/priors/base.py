"""The base of priors."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import nn

from mvcore.distributions.diagonal import Diagonal
from mvcore.distributions.mixture import Mixture


class Prior(nn.Module, ABC):
    """Base of the priors: its call returns the density of the shared latent, as a mixture of one row."""

    @abstractmethod
    def forward(self) -> Mixture:
        """The density of the shared latent, ``(C, 1, D)``."""

    @abstractmethod
    def private(self, name: str) -> Diagonal:
        """The density of a modality's private latent, ``(1, D_m)``."""
