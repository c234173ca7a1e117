"""Ctrl-C in a training waits until the step under way is made, so that nothing of it is lost."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import final


@final
class Interrupts:
    """Inside, the first SIGINT is remembered; the second interrupts at once, as it would without.

    A handler of the caller's own stays in its place, and so does Python's outside the main thread.

    Args:
        active: Whether to do anything; not where a training leaves no checkpoint.
    """

    def __init__(self, active: bool = True) -> None:
        self.asked = False
        self._active, self._installed = active, False

    def __enter__(self) -> Interrupts:
        in_main = threading.current_thread() is threading.main_thread()
        if self._active and in_main:
            _under_way.append(self)
        if self._active and in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._remember)
            self._installed = True
        return self

    def __exit__(self, *_: object) -> None:
        if self in _under_way:
            _under_way.remove(self)
        if self._installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def ask(self) -> None:
        """Asks the training to stop; asked again, it stops at once, by a KeyboardInterrupt."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.ask()


_under_way: list[Interrupts] = []


def interrupt() -> None:
    """Interrupts the training under way in the main thread as Ctrl-C does, also where SIGINT is ignored.

    A shell has what it starts in the background ignore it.

    Raises:
        KeyboardInterrupt: If there is none, or it was asked to stop before.
    """
    if not _under_way:
        raise KeyboardInterrupt
    _under_way[-1].ask()
