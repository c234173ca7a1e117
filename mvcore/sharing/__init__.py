"""Models on the Hugging Face Hub: pushed with a card that says what they are, and looked at before they are loaded."""

from typing import TYPE_CHECKING

from mvcore.faces import face

if TYPE_CHECKING:
    from mvcore.sharing.inspection import Inspection as Inspection, inspect as inspect
    from mvcore.sharing.pushing import Pushed as Pushed, push as push
else:
    __all__, __getattr__, __dir__ = face(
        __name__,
        {
            "inspection": ("Inspection", "inspect"),
            "pushing": ("Pushed", "push"),
        },
    )
