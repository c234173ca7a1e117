"""Sweeps: many configs of a space, trained and compared on validation rows."""

from typing import TYPE_CHECKING

from mvcore.faces import face

if TYPE_CHECKING:
    from mvcore.sweeps.records import Evaluated as Evaluated, Record as Record
    from mvcore.sweeps.sweep import Sweep as Sweep
else:
    __all__, __getattr__, __dir__ = face(__name__, {"records": ("Evaluated", "Record"), "sweep": ("Sweep",)})
