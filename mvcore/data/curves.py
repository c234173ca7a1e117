"""Curves from an interval to the real line, on which positive and bounded numbers are modelled."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from mvcore.data.scalings import Scaling

#: Nodes of the trapezoidal rule in deviations of a normal; its error is e^(−2π²/(step σ)), 2e-9 for σ = 8 logits.
_STEP, _REACH = 0.125, 8.5


@dataclass(frozen=True)
class Curve(ABC):
    """An increasing map of the open interval (low, high) onto the real line."""

    low: float
    high: float

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Data units to the real line; not finite outside of the interval."""

    @abstractmethod
    def inverse(self, y: Tensor) -> Tensor:
        """The real line to data units, inside of the interval also where rounding would leave it."""

    @abstractmethod
    def log_slope(self, x: Tensor) -> Tensor:
        """The log of the derivative at ``x``."""

    @abstractmethod
    def moments(self, loc: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of x where its image is normal."""

    @property
    @abstractmethod
    def inside(self) -> float:
        """A value of the interval."""

    def holds(self, x: Tensor) -> Tensor:
        """Whether values lie in the interval; NaN does not."""
        return (x > self.low) & (x < self.high)


@final
@dataclass(frozen=True)
class Log(Curve):
    """``log(x + shift)``, for values above ``-shift``."""

    shift: float = 0.0

    def forward(self, x: Tensor) -> Tensor:
        """Data units to the real line."""
        return x.log1p() if self.shift == 1 else x.log()

    def inverse(self, y: Tensor) -> Tensor:
        """The real line to data units."""
        if self.shift == 1:
            return y.expm1().clamp(min=-1 + torch.finfo(y.dtype).eps)
        return y.exp().clamp(min=torch.finfo(y.dtype).tiny)

    def log_slope(self, x: Tensor) -> Tensor:
        """The log of the derivative."""
        return -self.forward(x)

    def moments(self, loc: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Of a log-normal: exp(μ + σ²/2) and its multiple √(exp(σ²) − 1), in closed form."""
        mean = (loc + scale.square() / 2).exp()
        return mean - self.shift, mean * scale.square().expm1().sqrt()

    @property
    def inside(self) -> float:
        """A value of the interval."""
        return 1.0


@final
@dataclass(frozen=True)
class Logit(Curve):
    """``log((x − low) / (high − x))``, for values between the two."""

    def forward(self, x: Tensor) -> Tensor:
        """Data units to the real line."""
        return (x - self.low).log() - (self.high - x).log()

    def inverse(self, y: Tensor) -> Tensor:
        """The real line to data units."""
        low, high = y.new_tensor(self.low), y.new_tensor(self.high)
        x = low + (high - low) * y.sigmoid()
        return x.clamp(torch.nextafter(low, high), torch.nextafter(high, low))

    def log_slope(self, x: Tensor) -> Tensor:
        """The log of the derivative."""
        return math.log(self.high - self.low) - (x - self.low).log() - (self.high - x).log()

    def moments(self, loc: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """By the trapezoidal rule over the normal; there is no closed form."""
        nodes = torch.arange(-_REACH, _REACH + _STEP / 2, _STEP, dtype=torch.float64)
        weights = (-0.5 * nodes.square()).exp()
        pairs = list(zip(nodes.tolist(), (weights / weights.sum()).tolist(), strict=True))
        mean = sum((w * (loc + scale * t).sigmoid() for t, w in pairs), torch.zeros_like(loc))
        spread = sum((w * ((loc + scale * t).sigmoid() - mean).square() for t, w in pairs), torch.zeros_like(loc))
        size = self.high - self.low
        return self.low + size * mean, size * spread.sqrt()

    @property
    def inside(self) -> float:
        """A value of the interval."""
        return (self.low + self.high) / 2


def curve_of(scaling: Scaling) -> Curve | None:
    """The curve of a scale; None for one without."""
    if scaling.curve == "logit":
        return Logit(scaling.low, scaling.high)
    if scaling.curve is None:
        return None
    shift = 1.0 if scaling.curve == "log1p" else 0.0
    return Log(0.0 - shift, math.inf, shift)
