"""Likelihoods p(x_m | z): a likelihood turns a decoder's outputs into a distribution over observations.

Outputs are ``(..., P, *shape)`` with ``P = n_outputs``; the ``Observation`` has batch shape ``(...)`` and its
``log_prob`` sums over the observation's values, in nats, leaving out those that a mask calls unknown.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, final

import torch
from torch import Tensor, nn

from mvcore.data.transforms import Affine
from mvcore.distributions.counts import NegativeBinomialObservation, PoissonObservation, ZeroInflatedObservation
from mvcore.distributions.diagonal import full
from mvcore.distributions.observations import (
    BernoulliObservation,
    CategoricalObservation,
    LaplaceObservation,
    NormalObservation,
    Observation,
    Rescaled,
    StudentTObservation,
)


class Likelihood(nn.Module, ABC):
    """Base of the likelihoods: a module whose call turns a decoder's outputs into an ``Observation``.

    Args:
        shape: Shape of one observation.
    """

    n_outputs: int = 1
    """Outputs P that a decoder gives for each value."""

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


class _ScaledLikelihood(Likelihood):
    """A location family whose scale is fixed, learned for each feature, or predicted by the decoder."""

    observation: type[NormalObservation | LaplaceObservation]

    def __init__(
        self, shape: Sequence[int], *, scale: float = 1.0, learn: Literal["no", "feature", "predicted"] = "no"
    ) -> None:
        super().__init__(shape)
        self.n_outputs = 2 if learn == "predicted" else 1
        self.log_scale: Tensor | float = math.log(scale)
        self.predicted = learn == "predicted"
        if learn == "feature":
            self.log_scale = nn.Parameter(torch.full(self.shape, math.log(scale)))

    def forward(self, outputs: Tensor) -> Observation:
        """The distribution for ``outputs (..., P, *shape)``: the location and, if predicted, the log-scale."""
        return self.observation(len(self.shape), *self.location_and_scale(outputs))

    def location_and_scale(self, outputs: Tensor) -> tuple[Tensor, Tensor | float]:
        """The location and the log-scale."""
        log_scale = outputs.select(-len(self.shape) - 1, 1) if self.predicted else self.log_scale
        return self.first(outputs), log_scale


@final
class NormalLikelihood(_ScaledLikelihood):
    """Independent normals; ``scale`` is the (initial) standard deviation, in the units of the target transform."""

    observation = NormalObservation


@final
class LaplaceLikelihood(_ScaledLikelihood):
    """Independent Laplace distributions; ``scale`` is the (initial) scale, in the units of the target transform."""

    observation = LaplaceObservation


@final
class StudentTLikelihood(_ScaledLikelihood):
    """Independent Student t distributions, for outliers; ``scale`` is as of ``LaplaceLikelihood``.

    Args:
        shape: Shape of one observation.
        df: Degrees of freedom, above 2, so that the variance is finite.
        scale: The (initial) scale.
        learn: Whether the scale is fixed, learned for each feature, or predicted.
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        df: float = 5.0,
        scale: float = 1.0,
        learn: Literal["no", "feature", "predicted"] = "no",
    ) -> None:
        super().__init__(shape, scale=scale, learn=learn)
        self.df = df

    def forward(self, outputs: Tensor) -> Observation:
        """The distribution for ``outputs (..., P, *shape)``: the location and, if predicted, the log-scale."""
        return StudentTObservation(len(self.shape), *self.location_and_scale(outputs), self.df)


@final
class BernoulliLikelihood(Likelihood):
    """Independent 0/1 values; the decoder gives logits."""

    def forward(self, outputs: Tensor) -> Observation:
        """The distribution for logits ``(..., 1, *shape)``."""
        return BernoulliObservation(len(self.shape), self.first(outputs))

    def check(self, x: Tensor) -> str | None:
        """Values outside [0, 1]."""
        if bool(((x < 0) | (x > 1)).any()):
            return f"a bernoulli likelihood needs values in [0, 1], got {x.min().item():g} to {x.max().item():g}"
        return None


@final
class CategoricalLikelihood(Likelihood):
    """Independent categories; the decoder gives one logit for each."""

    def __init__(self, shape: Sequence[int], categories: int) -> None:
        super().__init__(shape)
        self.n_outputs = categories

    def forward(self, outputs: Tensor) -> Observation:
        """The distribution for logits ``(..., P, *shape)``."""
        return CategoricalObservation(len(self.shape), outputs)

    def check(self, x: Tensor) -> str | None:
        """Values that are no category."""
        if x.is_floating_point() or bool(((x < 0) | (x >= self.n_outputs)).any()):
            return f"a categorical likelihood needs integers 0 to {self.n_outputs - 1}, got {x.dtype}"
        return None


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


@final
class LikelihoodDecoder(nn.Module):
    """A decoder network with its likelihood and the scale on which the modality is modelled.

    Args:
        network: A module from ``(n, D)``, and covariates ``(n, C)`` where the schema has some, to ``(n, P, *shape)``,
            P the likelihood's ``n_outputs``.
        likelihood: The likelihood.
        target: The affine transform on whose scale the likelihood works; None for data units.
    """

    def __init__(self, network: nn.Module, likelihood: Likelihood, target: Affine | None = None) -> None:
        super().__init__()
        self.network, self.likelihood, self.target = network, likelihood, target

    def forward(self, z: Tensor, context: Tensor | None = None) -> Observation:
        """The distribution ``(...)`` over observations in data units given ``z (..., D)``; networks see (n, D).

        Args:
            z: The latents.
            context: The covariates ``(..., C)``; None where the schema has none.
        """
        told = () if context is None else (context.flatten(0, -2),)
        outputs = full(self.network(z.flatten(0, -2), *told))
        observation: Observation = self.likelihood(outputs.unflatten(0, z.shape[:-1]))
        return observation if self.target is None else Rescaled(observation.event_dims, observation, self.target)
