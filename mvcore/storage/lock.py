"""A folder that one process at a time writes into; the lock dies with the process that holds it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mvcore.errors import FileAccessError
from mvcore.storage.writing import told

LOCK = ".lock"  #: The file in the folder that the lock is on; it stays when the lock is gone.


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes, and other callers of this one, out of a folder, which is made if it is not there.

    The system drops the lock when the process ends, however it ends. Where it knows no such locks (Windows, some
    network file systems) nobody is kept out.

    Raises:
        FileAccessError: If another process is at work in the folder, or it can't be written.
    """
    with told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0), 0o644)
    try:
        _take(handle, folder)
        yield
    finally:
        os.close(handle)  # drops the lock


def _take(handle: int, folder: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise FileAccessError(
            f"Another process is at work in {str(folder)!r}; wait until it ends, or choose another folder.", folder
        ) from None
    except OSError:  # a file system without locks
        return
