"""Data sets by name."""

from typing import TYPE_CHECKING

from mvcore.faces import face

if TYPE_CHECKING:
    from mvcore.datasets.specs import MfeatConfig as MfeatConfig, MiniACCConfig as MiniACCConfig
else:
    __all__, __getattr__, __dir__ = face(
        __name__,
        {
            "specs": ("MfeatConfig", "MiniACCConfig"),
        },
    )
