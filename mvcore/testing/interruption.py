"""A training that is stopped in its midst, for tests of what goes on from there."""

from __future__ import annotations

from mvcore.training.hooks import hookimpl


class Stop(Exception):
    """What interrupts a training."""


class StopAfter:
    """A callback that interrupts after some steps of this process."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    @hookimpl
    def mvcore_step_end(self) -> None:
        """Counts a step."""
        self.left -= 1
        if self.left < 0:
            raise Stop
