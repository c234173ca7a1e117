"""What the weights of a config are, found out without their memory, and no dearer than a file of weights warrants."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

from mvcore.errors import ConfigError, ModelFileError, MvcoreError
from mvcore.storage.weights import Outline, differences, outlines

if TYPE_CHECKING:
    from mvcore.models.base import Model

_CALLS, _CALLS_EACH = 20_000, 20  # a tensor of the core's models takes about seven calls to make
_SPARE, _SPARE_TIMES = 2**28, 4  # bytes of tensors that are made but not kept
_VALUES = 100_000  #: Values in a model's config: a thousand modalities have about forty each.
_MODALITIES = 10_000
#: The precisions of a whole model that a saved folder may name.
PRECISIONS: Mapping[str, torch.dtype] = {
    "float64": torch.float64, "float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16,
}  # fmt: skip


def check_extent(config: Mapping[str, Any]) -> None:
    """Refuses a saved config whose parts are larger than any model's, before time is spent on reading them.

    Raises:
        ConfigError: If one is.
    """
    for name in ("model", "sampler", "training"):
        level, count = [config.get(name)], 0
        while level:
            count += len(level)
            if count > _VALUES:
                raise ConfigError([f"{name}: more than {_VALUES:,} values, which no model's has"], "config.json")
            level = [part for value in level for part in _parts(value)]
    schema = config["schema"]
    modalities = schema.get("modalities") if isinstance(schema, dict) else None
    if isinstance(modalities, list) and len(modalities) > _MODALITIES:
        raise ConfigError(
            [f"schema: {len(modalities):,} modalities, at most {_MODALITIES:,} can be read"], "config.json"
        )


def precision_of(state: Mapping[str, Tensor]) -> str | None:
    """The precision that all numbers of a state share; None where they share none."""
    dtypes = {value.dtype for value in state.values() if value.is_floating_point()}
    return next((name for name, dtype in PRECISIONS.items() if dtypes == {dtype}), None)


def expected(build: Callable[[], Model], found: Mapping[str, Outline], precision: str | None) -> dict[str, Outline]:
    """The tensors of the model that ``build`` makes, from a model without memory.

    Args:
        build: Builds the model from its config.
        found: The tensors of its file: the work and memory for others is bounded by them.
        precision: The precision that the model was saved in; None: as it is built.

    Raises:
        ModelFileError: If the model is far larger than the file's, or can't be built.
    """
    return bounded(build, len(found), sum(outline.size for outline in found.values()), precision)


def bounded(build: Callable[[], Model], tensors: int, size: int, precision: str | None) -> dict[str, Outline]:
    """As ``expected``, where of the file no more is known than how many tensors and bytes it can hold."""
    with torch.random.fork_rng(devices=[]), _as_errors_of_files():
        try:
            with _Budget(tensors, size), torch.device("meta"):
                model = build()
        except Exception as error:
            if _is_of_ours(error):
                raise
            # a builder reads values, which tensors without memory have not, or calls what needs some
            with _Budget(tensors, size, real=True):
                model = build()
        return outlines((model if precision is None else model.to(PRECISIONS[precision])).state_dict())


def check_matches(expected: Mapping[str, Outline], found: Mapping[str, Outline], who: str) -> None:
    """Raises a ModelFileError that names the first tensors that differ."""
    if problems := differences(expected, found):
        more = f"; and {len(problems) - 3:,} more" if len(problems) > 3 else ""
        raise ModelFileError(f"{who}: {'; '.join(problems[:3])}{more}.")


def _is_of_ours(error: Exception) -> bool:
    """Whether an error is one of ours, and not what the registry makes of any other that a builder raises."""
    cause = error.__cause__
    return isinstance(error, MvcoreError) and (cause is None or isinstance(cause, MvcoreError))


@final
class _Budget(TorchFunctionMode):
    """Stops a builder that makes far more, or far larger, tensors than those of a file.

    Args:
        tensors: How many tensors the file has.
        size: Their bytes.
        real: Whether the tensors take memory. Then each size is asked for before it is taken, and all are added up.
    """

    def __init__(self, tensors: int, size: int, *, real: bool = False) -> None:
        super().__init__()
        self.calls, self.real = _CALLS + _CALLS_EACH * tensors, real
        self.size = _SPARE + _SPARE_TIMES * size

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.calls -= 1
        if self.real:
            self._check(_without_memory(func, args, kwargs or {}))
        result = func(*args, **(kwargs or {}))
        self._check(result)
        if self.real and isinstance(result, Tensor) and not _shares_memory(result, args):
            self.size -= _bytes(result)
        return result

    def _check(self, result: Any) -> None:
        if self.calls < 0 or (isinstance(result, Tensor) and _bytes(result) > self.size):
            raise _TooLargeError


def _without_memory(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a function gives for tensors of these shapes; None where it must see their values."""
    args, kwargs = tree_map_only(Tensor, lambda value: value.to("meta"), (args, kwargs))
    try:
        with torch.device("meta"):
            return func(*args, **kwargs)
    except Exception:
        return None


def _shares_memory(result: Tensor, args: tuple[Any, ...]) -> bool:
    pointer = result.untyped_storage().data_ptr()
    return any(isinstance(arg, Tensor) and arg.untyped_storage().data_ptr() == pointer for arg in args)


class _TooLargeError(MvcoreError):
    """A model is larger than its file; builders let it through, as they do all errors of ours."""


def _bytes(value: Tensor) -> int:
    return value.numel() * value.element_size()


@contextmanager
def _as_errors_of_files() -> Iterator[None]:
    try:
        yield
    except _TooLargeError:
        raise ModelFileError(
            "The config does not hold: it describes a model that is far larger than the file of its weights. "
            "The folder is damaged, or was made to fill the memory."
        ) from None
    except MvcoreError:
        raise
    except Exception as cause:  # of whatever builder, plugins' included
        raise ModelFileError(f"No model can be built from the config: {type(cause).__name__}: {cause}.") from cause


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
