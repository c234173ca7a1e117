"""mvcore: multimodal variational autoencoders, exact on partially observed data.

Public names load on first use; ``import mvcore`` imports no torch.
"""

from typing import TYPE_CHECKING

from mvcore.faces import face

__version__ = "0.1.0"

if TYPE_CHECKING:
    from mvcore.build import create as create, dataset as dataset
    from mvcore.data.batch import Batch as Batch
    from mvcore.data.dataset import MultimodalDataset as MultimodalDataset
    from mvcore.data.frames import from_frames as from_frames
    from mvcore.data.missing import mar as mar, mcar as mcar, mnar as mnar
    from mvcore.data.schema import CovariateSpec as CovariateSpec, ModalitySpec as ModalitySpec, Schema as Schema
    from mvcore.data.sources import (
        from_anndata as from_anndata,
        from_mudata as from_mudata,
        from_torch_dataset as from_torch_dataset,
    )
    from mvcore.errors import (
        AmbiguousComponentError as AmbiguousComponentError,
        BrokenPluginError as BrokenPluginError,
        CheckpointError as CheckpointError,
        ConfigError as ConfigError,
        DataError as DataError,
        HubError as HubError,
        MissingExtraError as MissingExtraError,
        MissingPluginError as MissingPluginError,
        ModelFileError as ModelFileError,
        MvcoreError as MvcoreError,
        NotApplicableError as NotApplicableError,
        NotFittedError as NotFittedError,
        NotPackagedError as NotPackagedError,
        TrainingError as TrainingError,
        UnknownComponentError as UnknownComponentError,
    )
    from mvcore.evaluation.evaluate import evaluate as evaluate
    from mvcore.evaluation.report import Report as Report
    from mvcore.inference.embedding import embed as embed
    from mvcore.inference.imputation import Imputed as Imputed, impute as impute
    from mvcore.models.base import Model as Model
    from mvcore.models.multimodal import MultimodalVAE as MultimodalVAE
    from mvcore.options import TrainingConfig as TrainingConfig
    from mvcore.plugins.local import local as local
    from mvcore.samplers.fitting import fit_sampler as fit_sampler
    from mvcore.sharing.pushing import push as push
    from mvcore.storage.models import load as load, save as save
    from mvcore.sweeps.sweep import Sweep as Sweep, sweep as sweep
    from mvcore.training.fit import Run as Run, fit as fit
    from mvcore.training.hooks import StopTraining as StopTraining, hookimpl as hookimpl
else:
    __all__, __getattr__, __dir__ = face(
        __name__,
        {
            "build": ("create", "dataset"),
            "data.batch": ("Batch",),
            "data.dataset": ("MultimodalDataset",),
            "data.frames": ("from_frames",),
            "data.missing": ("mar", "mcar", "mnar"),
            "data.schema": ("CovariateSpec", "ModalitySpec", "Schema"),
            "data.sources": ("from_anndata", "from_mudata", "from_torch_dataset"),
            "errors": (
                "AmbiguousComponentError",
                "BrokenPluginError",
                "CheckpointError",
                "ConfigError",
                "DataError",
                "HubError",
                "MissingExtraError",
                "MissingPluginError",
                "ModelFileError",
                "MvcoreError",
                "NotApplicableError",
                "NotFittedError",
                "NotPackagedError",
                "TrainingError",
                "UnknownComponentError",
            ),
            "evaluation.evaluate": ("evaluate",),
            "evaluation.report": ("Report",),
            "inference.embedding": ("embed",),
            "inference.imputation": ("Imputed", "impute"),
            "models.base": ("Model",),
            "models.multimodal": ("MultimodalVAE",),
            "options": ("TrainingConfig",),
            "plugins.local": ("local",),
            "samplers.fitting": ("fit_sampler",),
            "sharing.pushing": ("push",),
            "storage.models": ("load", "save"),
            "sweeps.sweep": ("Sweep", "sweep"),
            "training.fit": ("Run", "fit"),
            "training.hooks": ("StopTraining", "hookimpl"),
        },
    )
