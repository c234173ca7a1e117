"""Distributions over latent vectors with independent dimensions."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self, final

import torch
from torch import Tensor

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def full(x: Tensor) -> Tensor:
    """The tensor in float32 at least: fusion, divergences and densities are not taken in half precision."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


@dataclass(frozen=True)
class Diagonal(ABC):
    """A location-scale family with independent dimensions; ``loc`` and ``log_scale`` are ``(..., D)``."""

    loc: Tensor
    log_scale: Tensor
    standard: bool = False
    """Whether it is known to be the standard member: a divergence to it needs fewer passes over memory."""

    @classmethod
    def unit(cls, *shape: int, like: Tensor | None = None) -> Self:
        """The standard member of the family, of shape ``(*shape)``."""
        zeros = torch.zeros(shape) if like is None else like.new_zeros(shape)
        return cls(zeros, zeros, standard=True)

    @cached_property
    def scale(self) -> Tensor:
        """The scale ``(..., D)``."""
        return self.log_scale.exp()

    def rsample(self, K: int) -> Tensor:
        """K reparametrised draws ``(K, ..., D)``."""
        noise = self.noise(torch.Size((K, *self.loc.shape)))
        return torch.addcmul(self.loc, self.scale, noise)

    def detach(self) -> Self:
        """The same distribution, its parameters cut from the graph."""
        return replace(self, loc=self.loc.detach(), log_scale=self.log_scale.detach())

    def __getitem__(self, index: object) -> Self:
        """The distributions at an index of the batch dimensions."""
        return replace(self, loc=self.loc[index], log_scale=self.log_scale[index])  # type: ignore[index]

    def take(self, index: Tensor) -> Self:
        """The distributions at these positions of the leading dimension."""
        return replace(self, loc=self.loc.index_select(0, index), log_scale=self.log_scale.index_select(0, index))

    def expand(self, *shape: int) -> Self:
        """The same for every row: batch shape ``shape``."""
        D = self.loc.shape[-1]
        return replace(self, loc=self.loc.expand(*shape, D), log_scale=self.log_scale.expand(*shape, D))

    def replaced(self, rows: Tensor, other: Self) -> Self:
        """The distributions ``(B, D)`` with those of some rows taken from another ``(n, D)``."""
        loc = self.loc.index_copy(0, rows, other.loc)
        return type(self)(loc, self.log_scale.index_copy(0, rows, other.log_scale))

    def flatten(self) -> Self:
        """The same with all batch dimensions in one: ``(N, D)``."""
        return replace(self, loc=self.loc.flatten(0, -2), log_scale=self.log_scale.flatten(0, -2))

    @abstractmethod
    def noise(self, shape: torch.Size) -> Tensor:
        """Draws of the standard member of the family."""

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density in nats of ``z (..., D)``, summed over the last dimension."""

    @abstractmethod
    def kl(self, prior: Self) -> Tensor:
        """Kullback-Leibler divergence to a prior of the same family, in nats, summed over the last dimension."""


@final
@dataclass(frozen=True)
class DiagonalNormal(Diagonal):
    """The normal with independent dimensions; the scale is the standard deviation."""

    def noise(self, shape: torch.Size) -> Tensor:
        """Standard normal draws."""
        return torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density in nats."""
        squares = ((z - self.loc) / self.scale).square().sum(-1)
        return -0.5 * squares - self.log_scale.sum(-1) - self.loc.shape[-1] * _HALF_LOG_2PI

    def kl(self, prior: DiagonalNormal) -> Tensor:
        """Closed form, a factor 2 faster than through torch.distributions."""
        if prior.standard:
            inner = torch.addcmul(self.scale.square(), self.loc, self.loc) - 2 * self.log_scale
            return 0.5 * (inner.sum(-1) - self.loc.shape[-1])
        ratio = (self.scale / prior.scale).square()
        shift = ((self.loc - prior.loc) / prior.scale).square()
        return 0.5 * (ratio + shift - 1).sum(-1) - (self.log_scale - prior.log_scale).sum(-1)


@final
@dataclass(frozen=True)
class DiagonalLaplace(Diagonal):
    """The Laplace distribution with independent dimensions; its standard deviation is √2 times the scale."""

    def noise(self, shape: torch.Size) -> Tensor:
        """Standard Laplace draws: the difference of two exponential ones, which never takes log 0."""
        first = torch.empty(shape, dtype=self.loc.dtype, device=self.loc.device).exponential_()
        return first - torch.empty_like(first).exponential_()

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density in nats."""
        distances = ((z - self.loc).abs() / self.scale).sum(-1)
        return -distances - self.log_scale.sum(-1) - self.loc.shape[-1] * math.log(2)

    def kl(self, prior: DiagonalLaplace) -> Tensor:
        r"""Closed form :math:`\log(s/b) + |\mu|/s + (b/s) e^{-|\mu|/b} - 1`, summed over the dimensions."""
        shift = (self.loc - prior.loc).abs()
        tail = self.scale / prior.scale * torch.exp(-shift / self.scale)
        return (prior.log_scale - self.log_scale + shift / prior.scale + tail - 1).sum(-1)
