"""What every row has beside its modalities: covariates, and size factors of counts."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mvcore.data.schema import CovariateSpec
from mvcore.errors import DataError


def covariates(context: Mapping[str, Any] | None, size: int) -> dict[str, Tensor]:
    """Covariates of ``size`` rows, ``(size, *shape)`` each: numbers as floats, categories as integers.

    Raises:
        DataError: For other dtypes, another number of rows, NaN or infinite values, negative categories.
    """
    checked = {}
    for name, given in (context or {}).items():
        values = _numbers(f"covariate {name!r}", given, size)
        if not values.is_floating_point() and values.dtype != torch.long:
            values = values.float() if values.dtype == torch.bool else values.long()
        lacking = ~values.isfinite().reshape(size, prod(values.shape[1:])).all(1)
        if bad := int(lacking.sum()):
            raise DataError(
                f"The covariate {name!r} is NaN or infinite in {bad} of {size} rows; every row needs its covariates. "
                "Fill them in, or make the covariate a modality, which rows may lack."
            )
        if values.dtype == torch.long and size and int(values.min()) < 0:
            raise DataError(f"The covariate {name!r} must hold categories 0, 1, 2, …; got {int(values.min())}.")
        checked[name] = values
    return checked


def row_factors(factors: Mapping[str, Any] | None, columns: Mapping[str, Tensor], size: int) -> dict[str, Tensor]:
    """Size factors ``(size,)`` of some modalities; 1 where a row that lacks the modality has NaN.

    Args:
        factors: The size factors by modality.
        columns: Which rows have each modality of the data ``(size,)``, bool, on the host.
        size: The number of rows.

    Raises:
        DataError: For an unknown modality, another shape, or a factor that is not above 0 and finite.
    """
    checked = {}
    for name, given in (factors or {}).items():
        if name not in columns:
            raise DataError(
                f"There are size factors for {name!r}, which is no modality; there are {', '.join(columns)}."
            )
        values = _numbers(f"size factors of {name!r}", given, size)
        if values.ndim != 1:
            raise DataError(f"The size factors of {name!r} must have shape ({size},); got {tuple(values.shape)}.")
        values = values if values.is_floating_point() else values.float()
        values = values.where(~values.isnan() | columns[name].to(values.device), 1)
        if bad := int((~((values > 0) & values.isfinite())).sum()):
            raise DataError(
                f"The size factors of {name!r} must be finite and above 0; {bad} of {size} are not. A row that lacks "
                "the modality may have NaN, which counts as 1."
            )
        checked[name] = values
    return checked


def covariate_spec(name: str, values: Tensor) -> CovariateSpec:
    """The spec of a covariate: integers are categories, as many as the largest says; all else are numbers."""
    categories = None if values.is_floating_point() else int(values.max()) + 1
    return CovariateSpec(name=name, shape=tuple(values.shape[1:]), categories=categories)


def _numbers(what: str, given: Any, size: int) -> Tensor:
    """Numbers, ``(size, …)``; from an array, floats become float32."""
    if isinstance(given, Tensor):
        values = given.detach()
    else:
        array = np.asarray(given)
        if array.dtype.kind not in "fiub":
            raise DataError(
                f"The {what} must be numbers; got dtype {array.dtype}. Write categories as integers 0, 1, 2, …"
            )
        kind = np.float32 if array.dtype.kind == "f" else np.bool_ if array.dtype.kind == "b" else np.int64
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as that
            values = torch.from_numpy(np.array(array, dtype=kind))
    if values.is_complex() or values.ndim < 1 or len(values) != size:
        raise DataError(f"The {what} must be real numbers, one entry for each of {size} rows; got "
                        f"{str(values.dtype).removeprefix('torch.')} of shape {tuple(values.shape)}.")  # fmt: skip
    return values
