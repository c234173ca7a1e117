"""A folder that one process at a time writes into; the lock is the system's, and ends with its process."""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mvcore.errors import FileAccessError
from mvcore.storage.writing import told

FILE = ".lock"
log = logging.getLogger(__name__)
_HELD = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds a folder, which is made if there is none; the file ``.lock`` in it is removed in the end.

    A process that is killed leaves the file, but not the lock. Where the file system has no locks a warning is logged.

    Raises:
        FileAccessError: If another process, or another part of this one, holds it; or if it can't be written into.
    """
    with told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = _taken(folder / FILE)
    try:
        yield
    finally:
        with suppress(OSError):  # the folder may be gone by now
            (folder / FILE).unlink()
        os.close(handle)


def _taken(file: Path) -> int:
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
        try:
            _lock(handle)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(handle)
                raise _held(file.parent, error) from error
            log.warning("The file system of %s has no locks; let one process at a time train into it.", file.parent)
        if _is(file, handle):
            return handle
        os.close(handle)  # the one before removed the file while this one waited for it


def _held(folder: Path, error: OSError) -> OSError:
    if error.errno not in _HELD:
        return error
    return FileAccessError(
        f"Another process is writing into {str(folder)!r}. Wait until it has ended, or choose another folder.",
        folder,
        error.errno,
    )


def _is(file: Path, handle: int) -> bool:
    """Whether a path still stands for an open file."""
    try:
        return os.path.samestat(os.stat(file), os.fstat(handle))
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
