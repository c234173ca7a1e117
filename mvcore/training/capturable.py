"""Whether a step can be captured: it has one shape, and reads nothing on the host that another batch may change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from mvcore.data.padded import NotCapturableError

_aten = torch.ops.aten

#: Operations whose result the host waits for, or whose shape depends on values.
_WAIT = {
    _aten._local_scalar_dense: "reads a number of a tensor",
    _aten.equal: "compares tensors",
    _aten.nonzero: "lists positions",
    _aten.masked_select: "selects by a mask",
    _aten._unique2: "lists distinct values",
    _aten.unique_dim: "lists distinct values",
    _aten.repeat_interleave: "repeats as often as a tensor says",
}
_INDICES = (_aten.index, _aten.index_put, _aten.index_put_, _aten._unsafe_index, _aten._index_put_impl_)


@final
class Capturable(TorchDispatchMode):
    """Inside, an operation that a captured step may not have raises a ``NotCapturableError``; others are counted.

    Args:
        device: Where the step is; on an accelerator no tensor of the host may take part.
        there: On a CPU, which stands in for an accelerator, the tensors that would be on it; what is made of them
            would be too.
    """

    def __init__(self, device: torch.device, there: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device, self.count = device, 0
        # a storage is kept, so that no other one gets its place
        self._there = {v.untyped_storage()._cdata: v for v in there}

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Looks at an operation, and runs it."""
        packet, named = func.overloadpacket, dict(kwargs or {})
        values = _tensors((args, named))
        if not any(map(self._is_there, values)):  # a computation of the host, which is the same for every batch
            out = func(*args, **named)
            self.count += any(map(self._is_there, _tensors(out)))
            return out
        if packet in _WAIT and named.get("output_size") is None:
            raise NotCapturableError(f"The step {_WAIT[packet]} ({func}).")
        if packet in _INDICES and any(v is not None and v.dtype == torch.bool for v in args[1]):
            raise NotCapturableError(f"The step selects by a mask ({func}).")
        out = func(*args, **named)
        if self.device.type == "cpu":
            self._there |= {v.untyped_storage()._cdata: v for v in _tensors(out)}
        elif any(v.ndim and not self._is_there(v) for v in (*values, *_tensors(out))):
            raise NotCapturableError(f"The step copies between the host and the device ({func}).")
        self.count += 1
        return out

    def _is_there(self, value: Tensor) -> bool:
        if self.device.type == "cpu":
            return value.untyped_storage()._cdata in self._there
        return value.device.type == self.device.type


def _tensors(values: Any) -> list[Tensor]:
    return [v for v in tree_iter(values) if isinstance(v, Tensor)]
