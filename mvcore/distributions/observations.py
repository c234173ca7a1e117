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
        values = self.values_log_prob(x)
        if mask is not None:
            values = values.where(mask, 0)
        return values.flatten(-self.event_dims).sum(-1)


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
class NegativeBinomialObservation(Observation):
    """Counts with mean μ and inverse dispersion θ: variance μ + μ²/θ. Both are given as logarithms."""

    log_mean: Tensor
    log_theta: Tensor

    @property
    def mean(self) -> Tensor:
        return self.log_mean.exp()

    @property
    def stddev(self) -> Tensor:
        return (self.mean + (2 * self.log_mean - self.log_theta).exp()).sqrt()

    def sample(self, k: int = 1) -> Tensor:
        theta = self.log_theta.exp().expand(k, *self.log_mean.shape)
        rate = torch._standard_gamma(theta) * (self.log_mean - self.log_theta).exp()
        return torch.poisson(rate)

    def values_log_prob(self, x: Tensor) -> Tensor:
        theta = self.log_theta.exp()
        log_total = torch.logaddexp(self.log_mean, self.log_theta)
        counts = torch.lgamma(x + theta) - torch.lgamma(theta) - torch.lgamma(x + 1)
        return counts + theta * (self.log_theta - log_total) + x * (self.log_mean - log_total)


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
