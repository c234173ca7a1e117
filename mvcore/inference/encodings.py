"""The encoded modalities of a batch, which every subset of them is fused from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, final

from mvcore.data.batch import Batch


@final
@dataclass(frozen=True)
class Encodings:
    """The encoded modalities of a batch, each network run once. A view of it conditions on fewer modalities."""

    batch: Batch
    experts: Mapping[str, Any]
    """For each modality of the batch what the model's network made of its ``(n_m, …)`` rows."""
    joint: Any = None
    """What a joint encoder made of the rows that have all; a view that leaves a modality out leaves this out."""

    def only(self, names: Iterable[str]) -> Encodings:
        """The encodings of these modalities alone."""
        batch = self.batch.only(names)
        joint = self.joint if batch.names == self.batch.names else None
        return Encodings(batch, {m: self.experts[m] for m in batch.names}, joint)

    def without(self, names: Iterable[str]) -> Encodings:
        """The encodings of all modalities but these."""
        return self.only(self.batch.without(names).names)
