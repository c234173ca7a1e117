"""Distributions over observations p(x_m | z), with batch shape ``(...)``; log-probabilities are in nats."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F

from mvcore.data.transforms import Affine
from mvcore.errors import DataError

_LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class Observation(ABC):
    """A distribution over observations of one modality, with batch shape ``(...)``."""

    event_dims: int
    """Number of dimensions of one observation."""

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
            x = x.where(mask, 0)
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


@dataclass(frozen=True)
class _LocationScale(Observation):
    loc: Tensor
    log_scale: Tensor | float

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def scale(self) -> Tensor:
        """The scale, of the shape of the mean."""
        return torch.as_tensor(self.log_scale, dtype=self.loc.dtype, device=self.loc.device).exp().expand_as(self.loc)


@final
@dataclass(frozen=True)
class NormalObservation(_LocationScale):
    """Independent normals; the scale is the standard deviation."""

    @property
    def stddev(self) -> Tensor:
        return self.scale

    def sample(self, k: int = 1) -> Tensor:
        return self.loc + self.scale * torch.randn(k, *self.loc.shape, dtype=self.loc.dtype, device=self.loc.device)

    def values_log_prob(self, x: Tensor) -> Tensor:
        if isinstance(self.log_scale, float):
            return -0.5 * math.exp(-2 * self.log_scale) * (x - self.loc).square() - self.log_scale - 0.5 * _LOG_2PI
        return -0.5 * ((x - self.loc) * torch.exp(-self.log_scale)).square() - self.log_scale - 0.5 * _LOG_2PI

    def log_prob(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log-density in nats; with one fixed scale in as few passes over memory as a squared error."""
        if mask is not None or not isinstance(self.log_scale, float):
            return super().log_prob(x, mask)
        error = self.loc - x
        size = math.prod(error.shape[-self.event_dims :])
        squares = error.square().flatten(-self.event_dims).sum(-1)
        return squares * (-0.5 * math.exp(-2 * self.log_scale)) - size * (self.log_scale + 0.5 * _LOG_2PI)


@final
@dataclass(frozen=True)
class LaplaceObservation(_LocationScale):
    """Independent Laplace distributions; the standard deviation is √2 times the scale."""

    @property
    def stddev(self) -> Tensor:
        return math.sqrt(2) * self.scale

    def sample(self, k: int = 1) -> Tensor:
        first = torch.empty(k, *self.loc.shape, dtype=self.loc.dtype, device=self.loc.device).exponential_()
        return self.loc + self.scale * (first - torch.empty_like(first).exponential_())

    def values_log_prob(self, x: Tensor) -> Tensor:
        log_scale = torch.as_tensor(self.log_scale, dtype=self.loc.dtype, device=self.loc.device)
        return -(x - self.loc).abs() * torch.exp(-log_scale) - log_scale - math.log(2)


@final
@dataclass(frozen=True)
class StudentTObservation(_LocationScale):
    """Independent Student t distributions with ``df`` > 2 degrees of freedom."""

    df: float

    @property
    def stddev(self) -> Tensor:
        return math.sqrt(self.df / (self.df - 2)) * self.scale

    def sample(self, k: int = 1) -> Tensor:
        normal = torch.randn(k, *self.loc.shape, dtype=self.loc.dtype, device=self.loc.device)
        spread = torch._standard_gamma(torch.full_like(normal, self.df / 2)) / (self.df / 2)
        return self.loc + self.scale * normal * spread.rsqrt()

    def values_log_prob(self, x: Tensor) -> Tensor:
        log_scale = torch.as_tensor(self.log_scale, dtype=self.loc.dtype, device=self.loc.device)
        error = (x - self.loc) * torch.exp(-log_scale) / math.sqrt(self.df)
        # log1p(error²) / 2; the square of an outlier would overflow
        tail = torch.hypot(error, torch.ones((), dtype=error.dtype, device=error.device)).log()
        half = (self.df + 1) / 2
        constant = math.lgamma(half) - math.lgamma(self.df / 2) - 0.5 * math.log(self.df * math.pi)
        return constant - log_scale - 2 * half * tail


@final
@dataclass(frozen=True)
class BernoulliObservation(Observation):
    """Independent 0/1 values; intensities in [0, 1] are scored by the same cross-entropy."""

    logits: Tensor

    @property
    def mean(self) -> Tensor:
        return self.logits.sigmoid()

    @property
    def stddev(self) -> Tensor:
        return (self.logits.sigmoid() * (-self.logits).sigmoid()).sqrt()

    def sample(self, k: int = 1) -> Tensor:
        return torch.bernoulli(self.mean.expand(k, *self.logits.shape))

    def values_log_prob(self, x: Tensor) -> Tensor:
        return x * self.logits - F.softplus(self.logits)


@final
@dataclass(frozen=True)
class CategoricalObservation(Observation):
    """Independent categories; logits are ``(..., P, *shape)``, observations integers 0 .. P − 1."""

    logits: Tensor

    @property
    def mean(self) -> Tensor:
        return self.logits.softmax(-self.event_dims - 1)

    @property
    def stddev(self) -> Tensor:
        return (self.mean * (1 - self.mean)).sqrt()

    def sample(self, k: int = 1) -> Tensor:
        last = self.mean.movedim(-self.event_dims - 1, -1)
        drawn = torch.multinomial(last.flatten(0, -2), k, replacement=True)
        values: Tensor = drawn.T.unflatten(1, last.shape[:-1])
        return values

    def values_log_prob(self, x: Tensor) -> Tensor:
        dim = -self.event_dims - 1
        log_p = self.logits.log_softmax(dim)
        shape = (*log_p.shape[:dim], *log_p.shape[dim + 1 :])
        return log_p.gather(dim, x.expand(shape).unsqueeze(dim)).squeeze(dim)


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
