"""Files that anyone may have written: read once, bounded, never through a pipe, a device or a link that leads away."""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from mvcore.errors import FileAccessError, ModelFileError
from mvcore.text import clean

JSON_LIMIT = 32 * 2**20  #: Bytes of a JSON file: the names of a million columns fit.
DEPTH = 64  #: Levels of tables and lists in a JSON or TOML file.
TOO_DEEP = f"it has tables or lists inside each other more than {DEPTH} deep"
INT64 = range(-(2**63), 2**63)  #: Integers that a file may hold.
#: A link is not followed, a pipe not waited for. Windows has none of these flags.
_FLAG_NAMES = ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", "O_BINARY")
_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in _FLAG_NAMES)
_NO_FILE = (errno.ENOENT, errno.ENOTDIR)
_IS_LINK = (errno.ELOOP, getattr(errno, "EMLINK", errno.ELOOP))


@contextmanager
def opened(path: Path, links: Path | None = None) -> Iterator[tuple[BinaryIO, int]]:
    """A regular file, open for reading, and its size in bytes: what is asked of the file is asked of what was opened.

    Args:
        path: The file.
        links: A folder into which the file may be a link, such as that of a cache that keeps its contents elsewhere;
            None: links are refused.

    Raises:
        FileNotFoundError: If there is none.
        NotADirectoryError: If what should hold it is no folder.
        ModelFileError: If it is a link, or no regular file.
        FileAccessError: If the system does not let it be read.
    """
    with _translated(path):
        handle = os.open(path, _FLAGS) if links is None else _open_inside(path, links)
        about = os.fstat(handle)
        is_link = links is None and not hasattr(os, "O_NOFOLLOW") and path.is_symlink()
        if is_link or not stat.S_ISREG(about.st_mode):
            os.close(handle)
            raise ModelFileError(f"{str(path)!r} is no regular file, but a link, pipe, device or folder.", path=path)
        with os.fdopen(handle, "rb") as file:
            yield file, about.st_size


def read_bounded(path: Path, limit: int, links: Path | None = None) -> bytes:
    """The content of a file of at most ``limit`` bytes; arguments and errors as of ``opened``."""
    with opened(path, links) as (file, _):
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ModelFileError(f"{str(path)!r} has more than {limit:,} bytes, which no such file needs.", path=path)
    return content


def parse_json(content: bytes | str) -> Any:
    """The value of a JSON text, strictly: no key twice, no NaN, numbers of 64 bits, at most ``DEPTH`` levels.

    Raises:
        ValueError: If it is no such text; the message says what is wrong, without a full stop.
    """
    text = content.decode("utf-8") if isinstance(content, bytes) else content
    try:
        value = json.loads(
            text, object_pairs_hook=_once, parse_constant=_no_constant, parse_float=_finite, parse_int=_int64
        )
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    check_depth(value)
    if "\\u" in text:
        json.dumps(value, ensure_ascii=False).encode()  # half of a pair of surrogates is no text
    return value


def check_depth(value: Any) -> None:
    """Refuses tables and lists inside each other more than ``DEPTH`` deep.

    Raises:
        ValueError: If there are some; the message says what is wrong, without a full stop.
    """
    level = [value]
    for _ in range(DEPTH):
        level = [part for value in level for part in _parts(value)]
        if not level:
            return
    raise ValueError(TOO_DEEP)


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, (list, tuple)) else []


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice!r} stands twice in one table")
    return table


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _int64(text: str) -> int:
    if len(text) > 20 or (value := int(text)) not in INT64:
        raise ValueError(f"the integer {clean(text, 60)} has more than 64 bits")
    return value


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"the number {clean(text, 60)} is too large")
    return value


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if isinstance(error, FileAccessError) or error.errno in _NO_FILE:
            raise
        if error.errno in _IS_LINK:
            raise ModelFileError(f"{str(path)!r} is a link, which is not followed.", path=path) from error
        why = error.strerror or str(error)
        raise FileAccessError(f"{str(path)!r} could not be read: {why}.", path, error.errno) from error


def _open_inside(path: Path, links: Path) -> int:
    """Opens what a path stands for, if that is inside a folder; step by step, so that no step can become a link."""
    base, real = Path(os.path.realpath(links)), Path(os.path.realpath(path))
    if not real.is_relative_to(base):
        raise ModelFileError(f"{str(path)!r} is a link out of {str(links)!r}, which is not followed.", path=path)
    *folders, name = real.relative_to(base).parts or (".",)
    if os.open not in os.supports_dir_fd:
        return os.open(real, _FLAGS)
    here = os.open(base, os.O_RDONLY)
    try:
        for folder in folders:
            inner = os.open(folder, _FLAGS | os.O_DIRECTORY, dir_fd=here)
            os.close(here)
            here = inner
        return os.open(name, _FLAGS, dir_fd=here)
    finally:
        os.close(here)
