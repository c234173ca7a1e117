"""The base of every model, and the composed model."""

from typing import TYPE_CHECKING

from mvcore.faces import face

if TYPE_CHECKING:
    from mvcore.models.autoencoder import Autoencoder as Autoencoder
    from mvcore.models.base import Model as Model, Stage as Stage
    from mvcore.models.joint import (
        JointModel as JointModel,
        SurrogateModel as SurrogateModel,
        without_gradient as without_gradient,
    )
    from mvcore.models.multimodal import MultimodalVAE as MultimodalVAE, build_multimodal as build_multimodal
    from mvcore.models.specs import (
        ComposedConfig as ComposedConfig,
        ModalityConfig as ModalityConfig,
        MultimodalVAEConfig as MultimodalVAEConfig,
        PartsConfig as PartsConfig,
        SurrogateConfig as SurrogateConfig,
    )
else:
    __all__, __getattr__, __dir__ = face(
        __name__,
        {
            "autoencoder": ("Autoencoder",),
            "base": ("Model", "Stage"),
            "joint": ("JointModel", "SurrogateModel", "without_gradient"),
            "multimodal": ("MultimodalVAE", "build_multimodal"),
            "specs": ("ComposedConfig", "ModalityConfig", "MultimodalVAEConfig", "PartsConfig", "SurrogateConfig"),
        },
    )
