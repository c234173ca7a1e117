"""What a model needs of data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class Streamable(Protocol):
    """Data whose observed rows of one modality can be read in blocks."""

    def stream(self, name: str) -> Iterable[tuple[Tensor, Tensor | None]]:
        """Blocks of observations ``(n, *shape)`` with the masks of their known cells."""
        ...

    def stream_context(self) -> Iterable[Mapping[str, Tensor]]:
        """Blocks of the rows' covariates ``(n, *shape)``; asked only where the model's schema has some."""
        ...
