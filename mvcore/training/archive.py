"""The file of a checkpoint: torch's archive, whose comment is a digest of all of it; read only if that fits."""

from __future__ import annotations

import hashlib
import os
import zipfile
from io import RawIOBase
from pathlib import Path
from typing import Any, BinaryIO, final

import torch

from mvcore.config.reading import opened
from mvcore.errors import CheckpointError, ModelFileError

_MARK = b"mvcore checkpoint sha256:"
_LENGTH = len(_MARK) + 64
_END = 22  # bytes of the record that ends an archive, the last two of which are the length of the comment


def write_archive(state: dict[str, Any], file: BinaryIO) -> None:
    """Writes plain values and tensors, and the digest behind them."""
    hashed = _Hashed(file)
    torch.save(state, hashed)  # type: ignore[arg-type]
    file.seek(-2, os.SEEK_END)
    file.write(_LENGTH.to_bytes(2, "little") + _MARK + hashed.digest.hexdigest().encode())


def read_archive(path: Path) -> Any:
    """What ``write_archive`` wrote.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If it is damaged, no regular file, or would need more memory than it has bytes.
        FileAccessError: If the system does not let it be read.
    """
    try:
        with opened(path) as (file, size):
            _check_digest(file, size)
            _check_sizes(file, size)
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, CheckpointError):
        raise
    except ModelFileError as fault:
        raise CheckpointError(str(fault), path=path) from fault
    except _Damaged as fault:
        raise CheckpointError(f"{str(path)!r} is damaged: {fault}. {_advice(path)}", path=path) from fault
    except Exception as fault:  # torch's advice is to trust the file, which is none
        raise CheckpointError(
            f"{str(path)!r} is damaged: it is no archive of plain values and tensors. {_advice(path)}", path=path
        ) from fault


class _Damaged(Exception):
    """What is wrong with a file, as a sentence without its beginning and its full stop."""


@final
class _Hashed(RawIOBase):
    """A file that adds up what is written to it."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file, self.digest = file, hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self.digest.update(content)
        return self._file.write(content)


def _check_digest(file: BinaryIO, size: int) -> None:
    if size < _LENGTH + _END:
        raise _Damaged("it is too short")
    file.seek(size - _LENGTH - 2)
    tail = file.read(_LENGTH + 2)
    if tail[:2] != _LENGTH.to_bytes(2, "little") or not tail[2:].startswith(_MARK):
        raise _Damaged("it does not end with a digest")
    file.seek(0)
    digest, left = hashlib.sha256(), size - _LENGTH - 2
    while left:
        block = file.read(min(left, 2**20))
        if not block:
            raise _Damaged("it ends early")
        digest.update(block)
        left -= len(block)
    digest.update(b"\0\0")  # the length of the comment before there was one
    if tail[2 + len(_MARK) :] != digest.hexdigest().encode():
        raise _Damaged("its content is not what its digest says")


def _check_sizes(file: BinaryIO, size: int) -> None:
    """Refuses what is larger in memory than on the disk: torch packs nothing, so such an archive is none of its own."""
    with zipfile.ZipFile(file) as archive:
        parts = archive.infolist()
    if any(part.compress_type != zipfile.ZIP_STORED for part in parts) or sum(p.file_size for p in parts) > size:
        raise _Damaged("it holds packed parts, which no checkpoint does")


def _advice(path: Path) -> str:
    return f"Remove it to start anew, or put the one before it, {str(before(path))!r}, in its place, if there is one."


def before(path: Path) -> Path:
    """Where the checkpoint before the last one is kept."""
    return path.with_name(f"{path.stem}-before{path.suffix}")
