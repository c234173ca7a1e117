"""Transforms between data units and the scales on which networks and likelihoods work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mvcore.errors import NotFittedError

Scaling = Literal["none", "standardize", "minmax"]
InputScaling = Literal["none", "standardize", "minmax", "log1p", "log1p_standardize"]
Stream = Callable[[], Iterable[tuple[Tensor, Tensor | None]]]


@final
class Affine(nn.Module):
    """``(x − loc) / scale`` for each feature, fitted once on training rows and saved with the model.

    Args:
        shape: Shape of one observation.
        kind: ``standardize`` (mean 0, standard deviation 1) or ``minmax`` (0 to 1). A constant feature keeps scale 1.
    """

    loc: Tensor
    scale: Tensor
    fitted: Tensor

    def __init__(self, shape: Sequence[int], kind: Literal["standardize", "minmax"]) -> None:
        super().__init__()
        self.kind = kind
        self.register_buffer("loc", torch.zeros(*shape))
        self.register_buffer("scale", torch.ones(*shape))
        self.register_buffer("fitted", torch.tensor(False))
        self._ready = False  # spares a GPU the question at each call

    def forward(self, x: Tensor) -> Tensor:
        """Data units to the scale of the model."""
        self._ready = self._ready or bool(self.fitted)
        if not self._ready:
            raise NotFittedError(
                "A transform has not been fitted; call model.fit_transforms(data) or mvcore.fit first."
            )
        return (x - self.loc) / self.scale

    def inverse(self, y: Tensor) -> Tensor:
        """The scale of the model to data units."""
        return y * self.scale + self.loc

    def fit(self, stream: Stream) -> None:
        """Fits to observations ``(n, *shape)`` with optional masks of their known cells."""
        if not self.fitted:
            loc, scale = (_moments if self.kind == "standardize" else _range)(stream())
            self.loc.copy_(loc)
            # a feature that rounding alone makes vary counts as constant: dividing by it would amplify noise
            constant = scale <= 2e-7 * loc.abs().clamp(min=1e-6)
            self.scale.copy_(scale.where(~constant, 1))
            self.fitted.fill_(True)


@final
class InputTransform(nn.Module):
    """What an encoder sees of ``x``: one-hot categories, log1p, an affine map, 0 in unknown cells."""

    def __init__(self, shape: Sequence[int], kind: InputScaling, categories: int | None) -> None:
        super().__init__()
        self.log1p, self.categories = kind.startswith("log1p"), categories
        scaling = kind.removeprefix("log1p").removeprefix("_")
        self.affine = Affine(shape, scaling) if scaling in ("standardize", "minmax") else None  # type: ignore[arg-type]

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """``x (n, *shape)`` in data units to the encoder's input."""
        if self.categories is not None:
            x = F.one_hot(x, self.categories).movedim(-1, 1).float()
            return x if mask is None else x * mask.unsqueeze(1)
        x = x.log1p() if self.log1p else x
        x = x if self.affine is None else self.affine(x)
        return x if mask is None else x.where(mask, 0)

    def fit(self, stream: Stream) -> None:
        """Fits the affine part to observations in data units."""
        if self.affine is not None:
            log1p = self.log1p
            self.affine.fit(lambda: ((x.log1p() if log1p else x, mask) for x, mask in stream()))


def _moments(stream: Iterable[tuple[Tensor, Tensor | None]]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each feature in one pass (Chan's update), in float64."""
    count = mean = square = torch.zeros((), dtype=torch.float64)
    for x, mask in stream:
        known = torch.ones_like(x, dtype=torch.bool) if mask is None else mask
        n = known.sum(0)
        x = x.double().where(known, 0)
        here = x.sum(0) / n.clamp(min=1)
        spread = (x - here).square().where(known, 0).sum(0)
        total = count + n
        delta = here - mean
        mean = mean + delta * n / total.clamp(min=1)
        square = square + spread + delta.square() * count * n / total.clamp(min=1)
        count = total
    return mean, (square / count.clamp(min=1)).sqrt()


def _range(stream: Iterable[tuple[Tensor, Tensor | None]]) -> tuple[Tensor, Tensor]:
    """Minimum and range of each feature."""
    low, high = torch.tensor(torch.inf), torch.tensor(-torch.inf)
    for x, mask in stream:
        if not len(x):  # of no rows there is no minimum
            continue
        known = torch.ones_like(x, dtype=torch.bool) if mask is None else mask
        low = torch.minimum(low, x.where(known, torch.inf).amin(0))
        high = torch.maximum(high, x.where(known, -torch.inf).amax(0))
    low, high = low.where(low.isfinite(), 0), high.where(high.isfinite(), 0)
    return low, high - low
