"""Files of weights: their header is read, bounded and compared before anything is allocated, then each tensor once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, final

import torch
from attrs import frozen
from torch import Tensor

from mvcore.config.reading import parse_json
from mvcore.errors import ModelFileError

HEADER_LIMIT = 16 * 2**20  #: Bytes of a header; a hundred thousand tensors need ten million.
_DTYPES: Mapping[str, torch.dtype] = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "I16": torch.int16, "I32": torch.int32,
    "I64": torch.int64, "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64,
    "C64": torch.complex64,
}  # fmt: skip


@final
@frozen
class Outline:
    """A tensor without its values."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Its values' bytes."""
        return prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')} {self.shape}"


@final
@frozen(kw_only=True)
class Header:
    """What a safetensors file says of its tensors, in the order of their values."""

    raw: bytes
    """The file up to the values."""
    tensors: Mapping[str, Outline]

    @property
    def size(self) -> int:
        """Bytes of all values."""
        return sum(outline.size for outline in self.tensors.values())


def read_header(file: BinaryIO, size: int, path: Path) -> Header:
    """Reads the header of an open file of ``size`` bytes, and nothing behind it.

    Raises:
        ModelFileError: If it is damaged, or does not describe the whole file.
    """
    try:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > min(size - 8, HEADER_LIMIT):
            raise ValueError("it does not begin with a header of a possible length")
        content = file.read(length)
        if len(content) < length:
            raise ValueError("it ends within the header")
        tensors = _tensors(parse_json(content), size - 8 - length)
    except ValueError as error:
        raise ModelFileError(f"{str(path)!r} is damaged: {error}.", path=path) from error
    return Header(raw=start + content, tensors=tensors)


def read_tensors(file: BinaryIO, header: Header, path: Path) -> tuple[dict[str, Tensor], str]:
    """The tensors behind a header, each read once, and the SHA-256 of the whole file.

    Raises:
        ModelFileError: If the file ends early, or a truth value is neither 0 nor 1.
    """
    digest, tensors = hashlib.sha256(header.raw), {}
    for name, outline in header.tensors.items():
        values = bytearray(outline.size)
        if file.readinto(values) < len(values):  # type: ignore[attr-defined]
            raise ModelFileError(f"{str(path)!r} is damaged: it ends within {name!r}.", path=path)
        digest.update(values)
        if outline.dtype is torch.bool and max(values, default=0) > 1:
            raise ModelFileError(f"{str(path)!r} is damaged: {name!r} holds what is neither true nor false.", path=path)
        flat = torch.frombuffer(values, dtype=outline.dtype) if values else torch.empty(0, dtype=outline.dtype)
        tensors[name] = flat.reshape(outline.shape)
    return tensors, digest.hexdigest()


def outlines(state: Mapping[str, Tensor]) -> dict[str, Outline]:
    """What the tensors of a state are, without their values."""
    return {name: Outline(value.dtype, tuple(value.shape)) for name, value in state.items()}


def differences(expected: Mapping[str, Outline], found: Mapping[str, Outline]) -> list[str]:
    """Each tensor that is lacking, surplus, or of another type or shape."""
    lacking = [f"{name!r} is missing" for name in expected if name not in found]
    surplus = [f"{name!r} belongs to no part of the model" for name in found if name not in expected]
    shared = [(name, outline, found[name]) for name, outline in expected.items() if name in found]
    other = [f"{name!r} is {got}, the model has {want}" for name, want, got in shared if want != got]
    return [*lacking, *surplus, *other]


def not_finite(state: Mapping[str, Tensor]) -> list[str]:
    """The tensors that hold NaN or an infinite number."""
    return [name for name, value in state.items() if not bool(value.isfinite().all())]


def digest_of(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _tensors(table: Any, size: int) -> dict[str, Outline]:
    if not isinstance(table, dict):
        raise ValueError("its header is no table")
    metadata = table.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("the metadata of its header is no table of texts")
    placed = sorted(((*_entry(name, value), name) for name, value in table.items()), key=lambda part: part[:2])
    if list(_gaps(placed, size)):
        raise ValueError("its tensors do not fill it, one behind the other")
    return {name: outline for _, _, outline, name in placed}


def _entry(name: str, value: Any) -> tuple[int, int, Outline]:
    """Where a tensor begins and ends, and what it is."""
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name!r} has not the three fields of a tensor")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise ValueError(f"{name!r} is of the type {dtype!r}, expected one of {', '.join(_DTYPES)}")
    if not _sizes(shape) or not _sizes(offsets) or len(offsets) != 2 or len(shape) > 16:
        raise ValueError(f"{name!r} has a shape or offsets that are no sizes")
    outline = Outline(_DTYPES[dtype], tuple(shape))
    if offsets[1] - offsets[0] != outline.size:
        raise ValueError(f"{name!r} is {outline} but has {offsets[1] - offsets[0]} bytes")
    return offsets[0], offsets[1], outline


def _sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(size) is int and size >= 0 for size in value)


def _gaps(placed: Iterable[tuple[int, int, Outline, str]], size: int) -> Iterator[int]:
    """Where a tensor does not begin at the end of the one before, or the last does not end with the file."""
    end = 0
    for start, stop, _, _ in placed:
        if start != end:
            yield start
        end = stop
    if end != size:
        yield end
