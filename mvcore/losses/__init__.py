"""Training objectives."""

from typing import TYPE_CHECKING

from mvcore.faces import face

if TYPE_CHECKING:
    from mvcore.losses.base import Loss as Loss, LossOutput as LossOutput, warmed as warmed
    from mvcore.losses.correlation import check_pairs as check_pairs, multiset_correlation as multiset_correlation
    from mvcore.losses.elbo import ELBO as ELBO
    from mvcore.losses.importance import (
        IWAE as IWAE,
        DReG as DReG,
        bound as bound,
        doubly_reparametrised as doubly_reparametrised,
        separate as separate,
    )
    from mvcore.losses.passes import Pass as Pass
    from mvcore.losses.specs import DReGConfig as DReGConfig, ELBOConfig as ELBOConfig, IWAEConfig as IWAEConfig
else:
    __all__, __getattr__, __dir__ = face(
        __name__,
        {
            "base": ("Loss", "LossOutput", "warmed"),
            "correlation": ("check_pairs", "multiset_correlation"),
            "elbo": ("ELBO",),
            "importance": ("DReG", "IWAE", "bound", "doubly_reparametrised", "separate"),
            "passes": ("Pass",),
            "specs": ("DReGConfig", "ELBOConfig", "IWAEConfig"),
        },
    )
