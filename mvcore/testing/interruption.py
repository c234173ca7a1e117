"""A training that is stopped in its midst, for tests of what goes on from there."""

from __future__ import annotations

from mvcore.training.hooks import hookimpl


class Stop(Exception):
    """What interrupts a training."""


class StopAfter:
    """A callback that interrupts after some steps of this process.

    Args:
        steps: Steps that it lets pass.
        cause: What it raises: ``mvcore.StopTraining`` asks the training to end, anything else breaks it off.
    """

    def __init__(self, steps: int, cause: type[Exception] = Stop) -> None:
        self.left, self.cause = steps, cause

    @hookimpl
    def mvcore_step_end(self) -> None:
        """Counts a step."""
        self.left -= 1
        if self.left < 0:
            raise self.cause
