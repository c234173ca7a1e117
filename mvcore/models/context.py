"""Covariates on their way from a batch to the networks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mvcore import arguments
from mvcore.data.batch import Batch
from mvcore.data.context import covariates
from mvcore.data.schema import CovariateSpec
from mvcore.data.transforms import Affine
from mvcore.errors import DataError


@final
class Covariates(nn.Module):
    """What networks are told of the rows: numbers standardised by the training rows, categories one-hot, side by side.

    Args:
        specs: The covariates of the schema.
    """

    def __init__(self, specs: Sequence[CovariateSpec]) -> None:
        super().__init__()
        self.specs = tuple(specs)
        self.numbers = nn.ModuleList(Affine((s.width,), "standardize") for s in specs if s.categories is None)

    def forward(self, context: Mapping[str, Tensor], like: Tensor) -> Tensor:
        """The covariates ``(n, *shape)`` as one tensor ``(n, C)`` of another's dtype.

        Raises:
            DataError: If one is missing or does not fit its spec; the others that are given are not read.
        """
        self.check(context)
        scale, parts = iter(self.numbers), []
        for spec in self.specs:
            values = context[spec.name]
            if spec.categories is None:
                parts.append(next(scale)(values.to(like.dtype).reshape(len(values), spec.width)))
            else:
                parts.append(F.one_hot(values, spec.categories).to(like.dtype).reshape(len(values), spec.width))
        return torch.cat(parts, 1)

    def fit(self, stream: Callable[[], Iterable[Mapping[str, Tensor]]]) -> None:
        """Fits the scales that are not fitted yet to blocks of training rows."""
        numbers = [spec for spec in self.specs if spec.categories is None]
        for spec, affine in zip(numbers, self.numbers, strict=True):
            assert isinstance(affine, Affine)
            affine.fit(partial(_blocks, spec, stream))

    def check(self, context: Mapping[str, Tensor]) -> None:
        """Raises a DataError if a covariate is missing or does not fit its spec."""
        for spec in self.specs:
            if spec.name not in context:
                raise DataError(
                    f"The model was built for the covariate {spec.name!r}, which these rows do not have; they have "
                    f"{', '.join(context) or 'none'}. Give it in the data set's context, or generate's."
                )
            values = context[spec.name]
            if values.shape[1:] != spec.shape or values.is_floating_point() != (spec.categories is None):
                kind = "numbers" if spec.categories is None else "integers"
                raise DataError(
                    f"The covariate {spec.name!r} must hold {kind} of shape (rows, *{spec.shape!r}); got "
                    f"{str(values.dtype).removeprefix('torch.')} of shape {tuple(values.shape)}."
                )
            # an accelerator would have to be waited for; there one_hot itself fails
            if spec.categories and values.device.type == "cpu" and len(values) and int(values.max()) >= spec.categories:
                raise DataError(
                    f"The covariate {spec.name!r} has the category {int(values.max())}; the model knows 0 to "
                    f"{spec.categories - 1}."
                )


def _blocks(spec: CovariateSpec, stream: Callable[[], Iterable[Mapping[str, Tensor]]]) -> Iterator[tuple[Tensor, None]]:
    for block in stream():
        yield block[spec.name].reshape(-1, spec.width), None


def context_rows(context: Mapping[str, Any] | None, n: int, device: torch.device) -> Batch | None:
    """N rows that have covariates and nothing else; None without any. One entry of a covariate stands for all."""
    if context is None:
        return None
    each = arguments.mapping("context", context)
    given = {
        name: values if isinstance(values, Tensor) else arguments.array(f"The covariate {name!r}", values)
        for name, values in each.items()
    }
    one = all(v.ndim and len(v) == 1 for v in given.values())
    rows = Batch({}, torch.ones(n, 0, dtype=torch.bool), context=covariates(given, 1 if one else n)).to(device)
    spread = {name: v.expand(n, *v.shape[1:]) for name, v in rows.context.items()}
    return Batch({}, rows.observed, context=spread, device=device)
