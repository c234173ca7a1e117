"""Likelihoods of real numbers: a location, and a scale that is fixed, learned or predicted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from mvcore.data.curves import Curve, curve_of
from mvcore.data.scalings import parse
from mvcore.data.schema import ModalitySpec
from mvcore.data.transforms import Affine, Bent
from mvcore.likelihoods.base import Likelihood
from mvcore.likelihoods.observations import Observation
from mvcore.likelihoods.specs import LaplaceConfig, LearnScale, LogNormalConfig, NormalConfig, StudentTConfig
from mvcore.validators import check_choice

_LOG_2PI = math.log(2 * math.pi)


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

    def in_data_units(self, target: Affine | Bent) -> Observation:
        """After a curve, the curve of a normal: an affine map of a normal is one."""
        if isinstance(target, Affine):
            return super().in_data_units(target)
        return CurvedObservation(self.event_dims, self._on_the_curve(target.affine), target.curve)

    def _on_the_curve(self, affine: Affine | None) -> NormalObservation:
        if affine is None:
            return self
        return NormalObservation(self.event_dims, affine.inverse(self.loc), affine.scale.log() + self.log_scale)


@final
@dataclass(frozen=True)
class CurvedObservation(Observation):
    """Values whose image under a curve is normal: log-normal, shifted log-normal, logit-normal."""

    base: NormalObservation
    curve: Curve

    @property
    def inside(self) -> float:
        return self.curve.inside

    @property
    def mean(self) -> Tensor:
        return self.curve.moments(self.base.loc, self.base.scale)[0]

    @property
    def stddev(self) -> Tensor:
        return self.curve.moments(self.base.loc, self.base.scale)[1]

    def sample(self, k: int = 1) -> Tensor:
        return self.curve.inverse(self.base.sample(k))

    def values_log_prob(self, x: Tensor) -> Tensor:
        holds = self.curve.holds(x)
        x = x.where(holds, self.curve.inside)
        return (self.base.values_log_prob(self.curve.forward(x)) + self.curve.log_slope(x)).where(holds, -math.inf)

    def in_data_units(self, target: Affine | Bent) -> Observation:
        """On its own curve, a further affine map of the normal."""
        if isinstance(target, Affine) or target.curve != self.curve:
            return super().in_data_units(target)
        return CurvedObservation(self.event_dims, self.base._on_the_curve(target.affine), self.curve)


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


class _ScaledLikelihood(Likelihood):
    """A location family whose scale is fixed, learned for each feature, or predicted by the decoder."""

    observation: type[NormalObservation | LaplaceObservation]

    def __init__(self, shape: Sequence[int], *, scale: float = 1.0, learn: LearnScale = "no") -> None:
        super().__init__(shape)
        check_choice("learn", learn, LearnScale)
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
class LogNormalLikelihood(_ScaledLikelihood):
    """Independent log-normals, for positive values; ``scale`` is the (initial) standard deviation of their logarithms.

    It is in the units of the target transform, which works on logarithms: ``log_standardize``.
    """

    observation = NormalObservation
    neutral = 1.0
    _log = curve_of(parse("log"))

    def forward(self, outputs: Tensor) -> Observation:
        """The distribution for ``outputs (..., P, *shape)``: location and, if predicted, log-scale of the logarithm."""
        dims = len(self.shape)
        assert self._log is not None
        return CurvedObservation(dims, NormalObservation(dims, *self.location_and_scale(outputs)), self._log)

    def check(self, x: Tensor) -> str | None:
        """Values that are not positive."""
        if bool((x <= 0).any()):
            return f"the likelihood log_normal needs values above 0, got {x.min().item():g}"
        return None


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
        learn: LearnScale = "no",
    ) -> None:
        super().__init__(shape, scale=scale, learn=learn)
        self.df = df

    def forward(self, outputs: Tensor) -> Observation:
        """The distribution for ``outputs (..., P, *shape)``: the location and, if predicted, the log-scale."""
        return StudentTObservation(len(self.shape), *self.location_and_scale(outputs), self.df)


def build_normal(config: NormalConfig, *, modality: ModalitySpec) -> NormalLikelihood:
    """Independent normals."""
    return NormalLikelihood(modality.shape, scale=config.scale, learn=config.learn_scale)


def build_log_normal(config: LogNormalConfig, *, modality: ModalitySpec) -> LogNormalLikelihood:
    """Independent log-normals."""
    return LogNormalLikelihood(modality.shape, scale=config.scale, learn=config.learn_scale)


def build_laplace(config: LaplaceConfig, *, modality: ModalitySpec) -> LaplaceLikelihood:
    """Independent Laplace distributions."""
    return LaplaceLikelihood(modality.shape, scale=config.scale, learn=config.learn_scale)


def build_student_t(config: StudentTConfig, *, modality: ModalitySpec) -> StudentTLikelihood:
    """Independent Student t distributions."""
    return StudentTLikelihood(modality.shape, df=config.df, scale=config.scale, learn=config.learn_scale)
