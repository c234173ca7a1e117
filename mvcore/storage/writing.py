"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from mvcore.errors import DataError, FileAccessError, MvcoreError

#: What torch's writer of archives says where the file did not take what was written.
_WRITER = ("inline_container", "PytorchStreamWriter", "iostream error")


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Tells in one sentence why the system did not let a file or folder be written.

    Raises:
        FileAccessError: In place of any other OSError, and of those of torch's writer.
    """
    try:
        yield
    except MvcoreError:
        raise
    except (OSError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(name in str(error) for name in _WRITER):
            raise
        of_torch = "the disk did not take all of it; is it full?"
        why = (error.strerror or str(error)) if isinstance(error, OSError) else of_torch
        code = error.errno if isinstance(error, OSError) else None
        raise FileAccessError(f"{str(path)!r} could not be written: {why}. Nothing was changed.", path, code) from error


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write into, called ``.<name>-…`` until it is flushed to the disk and takes its place.

    Raises:
        FileAccessError: If the system does not let it be written.
    """
    with told(path), _staged(path) as file:
        yield file


@contextmanager
def _staged(path: Path) -> Iterator[BinaryIO]:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    staged = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        staged.chmod(0o644)
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> Path:
    """Writes a file, whole or not at all."""
    with whole_file(path) as file:
        file.write(content)
    return path


@contextmanager
def whole_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A folder to write into, which takes its place only when everything is written.

    Raises:
        DataError: If there is something in its place already; nothing is replaced.
        FileAccessError: If the system does not let it be written.
    """
    folder = Path(path)
    refuse_full(folder)
    with told(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            yield staging
            staging.chmod(0o755)
            staging.replace(folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def refuse_full(folder: Path) -> None:
    """Raises a DataError if a folder that is to be written holds something already, or is none."""
    with told(folder):
        full = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    if full:
        raise DataError(f"{str(folder)!r} holds something already; choose a folder that is new or empty.")
