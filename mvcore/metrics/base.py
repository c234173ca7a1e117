"""What every metric answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mvcore.evaluation.evaluation import Evaluation


class Metric(Protocol):
    """A measure of a trained model."""

    def __call__(self, e: Evaluation) -> Mapping[str, float]:
        """Values by name; each name starts with the metric's own, parts are joined by ``/``.

        A value that no row has is left out.

        Raises:
            NotApplicableError: If the data or a resource that the metric needs is not there.
        """
        ...
