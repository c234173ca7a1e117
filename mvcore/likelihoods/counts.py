"""Likelihoods of counts; means and dispersions are given as logarithms, log-probabilities are in nats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mvcore.data.schema import ModalitySpec
from mvcore.likelihoods.base import Likelihood
from mvcore.likelihoods.observations import Observation, per_value
from mvcore.likelihoods.specs import NegativeBinomialConfig, PoissonConfig, ZeroInflatedNegativeBinomialConfig

#: Inverse dispersions from which Stirling's series replaces the log-gamma function, whose differences cancel there.
_STIRLING = 16.0
#: A negative binomial is a Poisson to float64's precision long before its inverse dispersion is e^60.
_LARGEST = 60.0


@final
@dataclass(frozen=True)
class PoissonObservation(Observation):
    """Counts whose variance is their mean."""

    log_mean: Tensor

    @property
    def mean(self) -> Tensor:
        return self.log_mean.exp()

    @property
    def stddev(self) -> Tensor:
        return (0.5 * self.log_mean).exp()

    def sample(self, k: int = 1) -> Tensor:
        return torch.poisson(self.mean.expand(k, *self.log_mean.shape))

    def values_log_prob(self, x: Tensor) -> Tensor:
        return x * self.log_mean - self.log_mean.exp() - torch.lgamma(x + 1)

    def scaled(self, factors: Tensor) -> PoissonObservation:
        return replace(self, log_mean=self.log_mean + per_value(factors.log(), self.event_dims))


@final
@dataclass(frozen=True)
class NegativeBinomialObservation(Observation):
    """Counts with mean μ and inverse dispersion θ: variance μ + μ²/θ."""

    log_mean: Tensor
    log_theta: Tensor

    @property
    def mean(self) -> Tensor:
        return self.log_mean.exp()

    @property
    def stddev(self) -> Tensor:
        return (self.mean + (2 * self.log_mean - self.log_theta).exp()).sqrt()

    def sample(self, k: int = 1) -> Tensor:
        log_theta = self.log_theta.clamp(max=_LARGEST)
        theta = log_theta.exp().expand(k, *self.log_mean.shape)
        rate = torch._standard_gamma(theta) * (self.log_mean - log_theta).exp()
        return torch.poisson(rate)

    def values_log_prob(self, x: Tensor) -> Tensor:
        bound = math.log(_STIRLING)
        near = _far_from_poisson(x, self.log_mean, self.log_theta.clamp(max=bound))
        far = _near_poisson(x, self.log_mean, self.log_theta.clamp(min=bound, max=_LARGEST))
        return near.where(self.log_theta < bound, far) - torch.lgamma(x + 1)

    def scaled(self, factors: Tensor) -> NegativeBinomialObservation:
        return replace(self, log_mean=self.log_mean + per_value(factors.log(), self.event_dims))


@final
@dataclass(frozen=True)
class ZeroInflatedObservation(Observation):
    """Counts that are 0 with probability π, and negative binomial otherwise."""

    counts: NegativeBinomialObservation
    logits: Tensor
    """Log-odds of π, of the shape of the counts' log-mean."""

    @property
    def mean(self) -> Tensor:
        return (-self.logits).sigmoid() * self.counts.mean

    @property
    def stddev(self) -> Tensor:
        within = self.counts.stddev.square() + self.logits.sigmoid() * self.counts.mean.square()
        return ((-self.logits).sigmoid() * within).sqrt()

    def sample(self, k: int = 1) -> Tensor:
        counts = self.counts.sample(k)
        return counts * torch.bernoulli((-self.logits).sigmoid().expand_as(counts))

    def values_log_prob(self, x: Tensor) -> Tensor:
        counts = self.counts.values_log_prob(x)
        zero = F.softplus(counts - self.logits) - F.softplus(-self.logits)
        return zero.where(x == 0, counts - F.softplus(self.logits))

    def scaled(self, factors: Tensor) -> ZeroInflatedObservation:
        return replace(self, counts=self.counts.scaled(factors))


class _CountLikelihood(Likelihood):
    """Counts 0, 1, 2, …; the first output is the log-mean."""

    def check(self, x: Tensor) -> str | None:
        """Values that are no counts."""
        if bool(((x < 0) | (x != x.floor())).any()):
            return f"a count likelihood needs counts 0, 1, 2, …, got {x.min().item():g} to {x.max().item():g}"
        return None


@final
class PoissonLikelihood(_CountLikelihood):
    """Counts whose variance is their mean; the decoder gives the log-mean."""

    def forward(self, outputs: Tensor) -> Observation:
        """The distribution for log-means ``(..., 1, *shape)``."""
        return PoissonObservation(len(self.shape), self.first(outputs))


@final
class NegativeBinomialLikelihood(_CountLikelihood):
    """Counts; the decoder gives the log-mean, the inverse dispersion is learned for each feature."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__(shape)
        self.log_theta = nn.Parameter(torch.zeros(self.shape))

    def forward(self, outputs: Tensor) -> Observation:
        """The distribution for log-means ``(..., 1, *shape)``."""
        return NegativeBinomialObservation(len(self.shape), self.first(outputs), self.log_theta)


@final
class ZeroInflatedNegativeBinomialLikelihood(_CountLikelihood):
    """Counts with more zeros; the decoder gives the log-mean and the log-odds of such a zero.

    The inverse dispersion is learned for each feature.
    """

    n_outputs = 2

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__(shape)
        self.log_theta = nn.Parameter(torch.zeros(self.shape))

    def forward(self, outputs: Tensor) -> Observation:
        """The distribution for ``outputs (..., 2, *shape)``: the log-mean of the counts and the log-odds."""
        dims = len(self.shape)
        log_mean, logits = outputs.unbind(-dims - 1)
        return ZeroInflatedObservation(dims, NegativeBinomialObservation(dims, log_mean, self.log_theta), logits)


def build_poisson(config: PoissonConfig, *, modality: ModalitySpec) -> PoissonLikelihood:
    """Counts whose variance is their mean."""
    return PoissonLikelihood(modality.shape)


def build_negative_binomial(config: NegativeBinomialConfig, *, modality: ModalitySpec) -> NegativeBinomialLikelihood:
    """Counts."""
    return NegativeBinomialLikelihood(modality.shape)


def build_zero_inflated_negative_binomial(
    config: ZeroInflatedNegativeBinomialConfig, *, modality: ModalitySpec
) -> ZeroInflatedNegativeBinomialLikelihood:
    """Counts with a surplus of zeros."""
    return ZeroInflatedNegativeBinomialLikelihood(modality.shape)


def _far_from_poisson(x: Tensor, log_mean: Tensor, log_theta: Tensor) -> Tensor:
    """Log-probability plus log x!, with Γ(x + θ)/Γ(θ) = θ Γ(x + θ + 1)/((x + θ) Γ(θ + 1)), finite as θ → 0."""
    theta = log_theta.exp()
    ratio = torch.lgamma(x + theta + 1) - torch.lgamma(theta + 1) + log_theta - torch.logaddexp(x.log(), log_theta)
    return ratio - theta * F.softplus(log_mean - log_theta) - x * F.softplus(log_theta - log_mean)


def _near_poisson(x: Tensor, log_mean: Tensor, log_theta: Tensor) -> Tensor:
    """The same by Stirling's series for both log-gammas, in which all that grows with θ has cancelled."""
    theta = log_theta.exp()
    ratio = (x + theta - 0.5) * torch.log1p(x * (-log_theta).exp()) - x + _series(x + theta) - _series(theta)
    return ratio + x * log_mean - (x + theta) * F.softplus(log_mean - log_theta)


def _series(t: Tensor) -> Tensor:
    """Stirling's series 1/12t − 1/360t³ + 1/1260t⁵; the next term is below 3e-12 from t = 16 on."""
    inverse = t.reciprocal()
    square = inverse * inverse
    return inverse * (1 / 12 - square * (1 / 360 - square / 1260))
