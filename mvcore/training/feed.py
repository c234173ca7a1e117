"""Batches of one size on their way to a device: selected on the host, brought there by one copy, padded."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import NamedTuple, final

import torch
from torch import Tensor

from mvcore.data.batch import Batch
from mvcore.data.dataset import MultimodalDataset
from mvcore.data.narrow import as_read
from mvcore.data.padded import PaddedBatch, padding
from mvcore.data.rows import Rows

_ALIGNMENT = 256


class _Section(NamedTuple):
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def size(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


@final
class Feed:
    """One piece of memory on a device that every batch of a size is brought to, and the padded batch that reads it.

    All that depends on the rows is made on the host, in one page-locked piece of memory, and copied at once. Of rows
    that are on the device already, only their positions are.

    Args:
        data: The rows.
        size: Rows of a batch.
        device: Where the batches go.
    """

    def __init__(self, data: MultimodalDataset, size: int, device: torch.device) -> None:
        self.size, self.device, self._all, self._schema = size, device, data.held, data.schema
        self._always = dict(zip(self._all.names, data.observed.all(0).tolist(), strict=True))
        self._nothing = not bool(data.observed.any(1).all())
        self._position = padding(data.observed)
        self.resident = on_device(data, device)
        self._sections = self._layout()
        total = sum(_aligned(section.size) for section in self._sections.values())
        pinned = device.type == "cuda"
        self._host = [torch.empty(total, dtype=torch.uint8, pin_memory=pinned) for _ in range(2 if pinned else 1)]
        self._copied: list[torch.cuda.Event | None] = [None] * len(self._host)
        self._turn = 0
        self.memory = self._host[0] if device.type == "cpu" else torch.empty(total, dtype=torch.uint8, device=device)
        self._parts = self._views(self.memory)
        self._constants: dict[object, Tensor] = {}

    @property
    def epoch(self) -> Tensor:
        """Epochs trained so far, () on the device."""
        return self._parts["epoch"]

    def load(self, rows: Tensor, epoch: float, *, shift: int = 0) -> None:
        """Brings rows ``(size,)``, by index, to the device; the host waits for nothing but the copy before the last.

        Args:
            rows: The rows.
            epoch: Epochs trained so far.
            shift: As of ``padding``.
        """
        waited, host = self._copied[self._turn], self._host[self._turn]
        if waited is not None:
            waited.synchronize()
        self._fill(self._views(host), rows, epoch, padding(self._all.observed, shift) if shift else self._position)
        if self.device.type != "cpu":
            self.memory.copy_(host, non_blocking=True)
        if self.device.type == "cuda":
            self._copied[self._turn] = torch.cuda.Event()
            self._copied[self._turn].record()  # type: ignore[union-attr]
        self._turn = (self._turn + 1) % len(self._host)

    def batch(self) -> PaddedBatch:
        """The batch that was brought last; in a captured step, the one that will have been."""
        parts, names = self._parts, self._all.names
        if self.resident:
            parts = {**parts, **_gathered(self._all, parts["position"], parts["rows"])}
        masks = {m: None if self._always[m] else parts["mask"][i] for i, m in enumerate(names)}
        chosen = {kind: _of(parts, kind) for kind in ("x", "cells", "context", "size_factors")}
        x = {m: as_read(values, self._schema[m]) for m, values in chosen["x"].items()}
        return PaddedBatch(
            x, masks, self.size, device=self.device, cells=chosen["cells"], context=chosen["context"],
            size_factors=chosen["size_factors"], nothing=self._nothing, constants=self._constants,
        )  # fmt: skip

    def _layout(self) -> dict[str, _Section]:
        M, B = len(self._all.names), self.size
        sections = {"epoch": _Section((), torch.float64), "mask": _Section((M, B), torch.bool)}
        if self.resident:
            return sections | {"position": _Section((M, B), torch.long), "rows": _Section((B,), torch.long)}
        for kind, values in _tables(self._all).items():
            sections |= {f"{kind}/{m}": _Section((B, *v.shape[1:]), v.dtype) for m, v in values.items()}
        return sections

    def _views(self, memory: Tensor) -> dict[str, Tensor]:
        views, start = {}, 0
        for name, section in self._sections.items():
            views[name] = memory[start : start + section.size].view(section.dtype).view(section.shape)
            start += _aligned(section.size)
        return views

    def _fill(self, parts: Mapping[str, Tensor], rows: Tensor, epoch: float, positions: Tensor) -> None:
        parts["epoch"].fill_(epoch)
        parts["mask"].copy_(self._all.observed.index_select(0, rows).T)
        position = positions.index_select(1, rows)
        if self.resident:
            parts["position"].copy_(position)
            parts["rows"].copy_(rows)
            return
        _gathered(self._all, position, rows, parts)


def on_device(data: Rows, device: torch.device) -> bool:
    """Whether the values of some rows are on the accelerator that they are trained on."""
    return isinstance(data, MultimodalDataset) and data.held.device.type == device.type != "cpu"


def _tables(batch: Batch) -> dict[str, Mapping[str, Tensor]]:
    return {"x": batch.x, "cells": batch.cells, "context": batch.context, "size_factors": batch.size_factors}


def _of(parts: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    return {name.partition("/")[2]: part for name, part in parts.items() if name.startswith(f"{kind}/")}


def _gathered(
    batch: Batch, position: Tensor, rows: Tensor, out: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """What a batch has at some positions of its modalities ``(M, B)``, and of its rows ``(B,)``."""
    at = dict(zip(batch.names, position.unbind(0), strict=True))
    parts = {}
    for kind, values in _tables(batch).items():
        for name, v in values.items():
            key = f"{kind}/{name}"
            index = at[name] if kind in ("x", "cells") else rows
            parts[key] = _take(v, index, None if out is None else out[key])
    return parts


def _take(values: Tensor, index: Tensor, out: Tensor | None) -> Tensor:
    if len(values):
        return torch.index_select(values, 0, index, out=out)
    # of this modality there is no row to pad with
    return values.new_zeros(len(index), *values.shape[1:]) if out is None else out.zero_()


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
