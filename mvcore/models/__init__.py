"""The base of every model, and the composed model."""

from typing import TYPE_CHECKING

from mvcore.faces import face

if TYPE_CHECKING:
    from mvcore.models.base import Model as Model, Stage as Stage
    from mvcore.models.joint import JointModel as JointModel
    from mvcore.models.multimodal import MultimodalVAE as MultimodalVAE, build_multimodal as build_multimodal
    from mvcore.models.specs import (
        ComposedConfig as ComposedConfig,
        ModalityConfig as ModalityConfig,
        MultimodalVAEConfig as MultimodalVAEConfig,
        PartsConfig as PartsConfig,
    )
else:
    __all__, __getattr__, __dir__ = face(
        __name__,
        {
            "base": ("Model", "Stage"),
            "joint": ("JointModel",),
            "multimodal": ("MultimodalVAE", "build_multimodal"),
            "specs": ("ComposedConfig", "ModalityConfig", "MultimodalVAEConfig", "PartsConfig"),
        },
    )
