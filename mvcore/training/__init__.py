"""Training: the loop, checkpoints and hooks."""

from typing import TYPE_CHECKING

from mvcore.faces import face

if TYPE_CHECKING:
    from mvcore.training.checkpoint import weights as weights
    from mvcore.training.draws import shared_generator as shared_generator
    from mvcore.training.fit import Run as Run
    from mvcore.training.hooks import Hooks as Hooks, StopTraining as StopTraining, hookimpl as hookimpl
else:
    __all__, __getattr__, __dir__ = face(
        __name__,
        {
            "checkpoint": ("weights",),
            "draws": ("shared_generator",),
            "fit": ("Run",),
            "hooks": ("Hooks", "StopTraining", "hookimpl"),
        },
    )
