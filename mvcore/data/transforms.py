"""Transforms between data units and the scales on which networks and likelihoods work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mvcore.data.curves import curve_of
from mvcore.data.scalings import Kind, Scaling, parse
from mvcore.errors import DataError, NotFittedError

Stream = Callable[[], Iterable[tuple[Tensor, Tensor | None]]]


@final
class Affine(nn.Module):
    """``(x − loc) / scale`` for each feature, fitted once on training rows and saved with the model.

    A feature is constant if its values differ by no more than their own rounding, at any magnitude. It keeps scale 1,
    or, if it is much smaller or larger than 1, a scale of its own magnitude.

    Args:
        shape: Shape of one observation.
        kind: ``standardize`` (mean 0, standard deviation 1), ``minmax`` (0 to 1), ``channels`` (as ``standardize``,
            over all values of an entry of the first dimension), or ``image``: as ``channels``, but training images that
            lie in [−1, 1] are left as they are, and so are all before the fit.
    """

    loc: Tensor
    scale: Tensor
    fitted: Tensor

    def __init__(self, shape: Sequence[int], kind: Kind) -> None:
        super().__init__()
        self.kind = kind
        self.register_buffer("loc", torch.zeros(*shape))
        self.register_buffer("scale", torch.ones(*shape))
        self.register_buffer("fitted", torch.tensor(False))
        self._ready = kind == "image"  # spares a GPU the question at each call

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
        if self.fitted:
            return
        if not (self.kind == "image" and _within_one(stream())):
            pooled = self.kind in ("channels", "image")
            loc, scale = (_range if self.kind == "minmax" else _moments)(_by_channel(stream()) if pooled else stream())
            self.loc.copy_(loc)
            self.scale.copy_(_of_constants(loc.abs().double(), scale.double()))
        self.fitted.fill_(True)


@final
class Bent(nn.Module):
    """A curve, then an affine map that is fitted to the bent training rows: the scale of positive or bounded numbers.

    Args:
        shape: Shape of one observation.
        scaling: A scale with a curve.
    """

    def __init__(self, shape: Sequence[int], scaling: Scaling) -> None:
        super().__init__()
        curve = curve_of(scaling)
        if curve is None:
            raise DataError(f"Expected a scale with a curve, such as 'log_standardize'; got {scaling!r}.")
        self.curve = curve
        self.affine = None if scaling.affine is None else Affine(shape, scaling.affine)

    def forward(self, x: Tensor) -> Tensor:
        """Data units to the scale of the model."""
        y = self.curve.forward(x)
        return y if self.affine is None else self.affine(y)

    def inverse(self, y: Tensor) -> Tensor:
        """The scale of the model to data units."""
        return self.curve.inverse(y if self.affine is None else self.affine.inverse(y))

    def fit(self, stream: Stream) -> None:
        """Fits the affine map to observations in data units."""
        if self.affine is not None:
            self.affine.fit(lambda: ((self.curve.forward(x), mask) for x, mask in stream()))


def target_of(shape: Sequence[int], name: str) -> Affine | Bent | None:
    """The scale of a name on which a likelihood works; None for data units."""
    scaling = parse(name)
    if scaling.curve is not None:
        return Bent(shape, scaling)
    return None if scaling.affine is None else Affine(shape, scaling.affine)


@final
class InputTransform(nn.Module):
    """What an encoder sees of ``x``: one-hot categories, a curve, an affine map, 0 in unknown cells.

    Args:
        shape: Shape of one observation.
        kind: A scale by its name, as ``ModalityConfig.input``.
        categories: The number of categories; None for other values.
    """

    like: Tensor

    def __init__(self, shape: Sequence[int], kind: str, categories: int | None) -> None:
        super().__init__()
        scaling, self.categories = parse(kind), categories
        self.curve = curve_of(scaling)
        self.affine = None if scaling.affine is None else Affine(shape, scaling.affine)
        # it has the dtype of the networks, whatever the values have
        self.register_buffer("like", torch.zeros(()), persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """``x (n, *shape)`` in data units to the encoder's input."""
        if self.categories is not None:
            x = F.one_hot(x, self.categories).movedim(-1, 1).to(self.like.dtype)
            return x if mask is None else x * mask.unsqueeze(1)
        x = x if self.curve is None else self.curve.forward(x)
        x = (x if self.affine is None else self.affine(x)).to(self.like.dtype)
        return x if mask is None else x.where(mask, 0)

    def fit(self, stream: Stream) -> None:
        """Fits the affine part to observations in data units."""
        if self.affine is not None:
            curve = self.curve
            self.affine.fit(lambda: ((x if curve is None else curve.forward(x), mask) for x, mask in stream()))


def _within_one(stream: Iterable[tuple[Tensor, Tensor | None]]) -> bool:
    """Whether all known values lie in [−1, 1]."""
    return all(bool(((x.abs() <= 1) if known is None else (x.abs() <= 1) | ~known).all()) for x, known in stream)


def _by_channel(stream: Iterable[tuple[Tensor, Tensor | None]]) -> Iterable[tuple[Tensor, Tensor | None]]:
    """Blocks ``(n, C, *rest)`` as blocks ``(n', C, 1, …)``: every value of a channel is one of the same feature."""
    for x, known in stream:
        like = (-1, x.shape[1], *[1] * (x.ndim - 2))
        yield tuple(None if v is None else v.movedim(1, -1).reshape(like) for v in (x, known))  # type: ignore[misc]


def _of_constants(size: Tensor, scale: Tensor) -> Tensor:
    """The scales, with one that can be divided by where a feature of this absolute size varies by rounding alone."""
    tiny = torch.finfo(torch.float32).tiny  # smaller ones are denormal, and 0 to some accelerators
    rounding = (2e-7 * size).clamp(min=tiny)
    own = torch.ones_like(size).minimum(10 * size).where(size > 0, 1).maximum(rounding)
    return scale.where(scale > rounding, own)


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
