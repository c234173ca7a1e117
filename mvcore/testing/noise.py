"""Noise that makes stochastic losses exact or repeatable, for tests of laws."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from torch import Tensor

from mvcore.distributions.diagonal import Diagonal, DiagonalLaplace, DiagonalNormal


@contextmanager
def sigma_points() -> Iterator[None]:
    r"""Replaces normal noise by the points ±√D e_d, whose mean of any quadratic function is exact.

    K must be a multiple of 2D. A K-sample reconstruction term of a linear-Gaussian model is then its expectation, for
    any encoder; cross terms of shared and private latents vanish where their columns are orthogonal.
    """

    def points(self: Diagonal, shape: torch.Size) -> Tensor:
        K, D = shape[0], shape[-1]
        if D == 0:
            return self.loc.new_zeros(shape)
        if K % (2 * D):
            raise ValueError(f"sigma_points needs a multiple of {2 * D} draws, got {K}")
        unit = D**0.5 * torch.eye(D, dtype=self.loc.dtype)
        table = torch.cat([unit, -unit]).repeat(K // (2 * D), 1)
        return table.view(K, *[1] * (len(shape) - 2), D).expand(shape)

    with _noise(points):
        yield


@contextmanager
def fixed_noise(seed: int = 0) -> Iterator[None]:
    """Replaces latent noise by a table over draws and dimensions, the same in every row and component.

    A row's loss then does not depend on where in the batch it stands, nor on how many components there are.
    """

    def table(self: Diagonal, shape: torch.Size) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        values = torch.randn(shape[0], shape[-1], dtype=torch.float64, generator=generator).to(self.loc)
        return values.view(shape[0], *[1] * (len(shape) - 2), shape[-1]).expand(shape)

    with _noise(table):
        yield


@contextmanager
def _noise(function: Callable[[Diagonal, torch.Size], Tensor]) -> Iterator[None]:
    with mock.patch.object(DiagonalNormal, "noise", function), mock.patch.object(DiagonalLaplace, "noise", function):
        yield
