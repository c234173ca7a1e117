"""Distributions over observations p(x_m | z), with batch shape ``(...)``; log-probabilities are in nats."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

from torch import Tensor

from mvcore.data.transforms import Affine, Bent
from mvcore.errors import DataError


@dataclass(frozen=True)
class Observation(ABC):
    """A distribution over observations of one modality, with batch shape ``(...)``."""

    event_dims: int
    """Number of dimensions of one observation."""

    @property
    def inside(self) -> float:
        """A value that has a density, which stands in for unknown ones."""
        return 0  # an integer, which categories can have too

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """The mean ``(..., *shape)``; for categories their probabilities ``(..., P, *shape)``."""

    @property
    @abstractmethod
    def stddev(self) -> Tensor:
        """The standard deviation, of the shape of the mean."""

    @abstractmethod
    def sample(self, k: int = 1) -> Tensor:
        """Draws ``(k, ..., *shape)`` from torch's global generator."""

    @abstractmethod
    def values_log_prob(self, x: Tensor) -> Tensor:
        """Log-probability of each value of ``x (..., *shape)``."""

    def log_prob(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log-probability in nats of ``x``, broadcast against the batch shape, over the values that ``mask`` knows."""
        if mask is not None:  # before the density too: the gradient of what a NaN made is NaN, even where it is 0
            x = x.where(mask, self.inside)
        values = self.values_log_prob(x)
        if mask is not None:
            values = values.where(mask, 0)
        return values.flatten(-self.event_dims).sum(-1)

    def scaled(self, factors: Tensor) -> Observation:
        """The distribution whose mean is multiplied by the row's size factor ``(N,)``, the last batch dimension.

        Raises:
            DataError: Unless it is one of counts.
        """
        raise DataError(
            f"Size factors multiply the mean of counts, but a modality that has them is modelled by "
            f"{type(self).__name__}; choose a count likelihood such as 'negative_binomial', or leave them out."
        )

    def in_data_units(self, target: Affine | Bent) -> Observation:
        """The distribution of x where ``target`` of x has this one; its densities have the Jacobian.

        Raises:
            DataError: If the target bends, and the mean of what is bent back is not known.
        """
        if isinstance(target, Affine):
            return Rescaled(self.event_dims, self, target)
        raise DataError(
            f"A target with a curve, such as 'log', needs a likelihood whose mean is known after it, which "
            f"{type(self).__name__} is not; choose 'normal' or 'log_normal', or an affine target."
        )


@final
@dataclass(frozen=True)
class Rescaled(Observation):
    """The distribution of x where an affine transform of x has the base distribution."""

    base: Observation
    target: Affine

    @property
    def mean(self) -> Tensor:
        return self.target.inverse(self.base.mean)

    @property
    def stddev(self) -> Tensor:
        return self.base.stddev * self.target.scale

    def sample(self, k: int = 1) -> Tensor:
        return self.target.inverse(self.base.sample(k))

    def values_log_prob(self, x: Tensor) -> Tensor:
        return self.base.values_log_prob(self.target(x)) - self.target.scale.log()

    def log_prob(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log-density in nats in data units, the Jacobian of the transform included."""
        if mask is not None:
            return super().log_prob(x, mask)
        return self.base.log_prob(self.target(x)) - self.target.scale.log().sum()


def per_value(rows: Tensor, event_dims: int) -> Tensor:
    """One number for each row ``(N,)``, shaped to broadcast against ``(..., N, *shape)``."""
    return rows.view(-1, *[1] * event_dims)
