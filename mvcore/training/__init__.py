"""Training: the loop, checkpoints and hooks."""

from typing import TYPE_CHECKING

from mvcore.faces import face

if TYPE_CHECKING:
    from mvcore.training.checkpoint import weights as weights
    from mvcore.training.fit import Run as Run
    from mvcore.training.hooks import Hooks as Hooks, hookimpl as hookimpl
else:
    __all__, __getattr__, __dir__ = face(
        __name__,
        {
            "checkpoint": ("weights",),
            "fit": ("Run",),
            "hooks": ("Hooks", "hookimpl"),
        },
    )
