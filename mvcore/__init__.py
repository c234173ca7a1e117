"""mvcore: multimodal variational autoencoders, exact on partially observed data.

Public names load on first use; ``import mvcore`` imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from mvcore.api import create, dataset
    from mvcore.data.batch import Batch
    from mvcore.data.dataset import MultimodalDataset
    from mvcore.data.frames import from_frames
    from mvcore.data.missing import mar, mcar, mnar
    from mvcore.data.schema import ModalitySpec, Schema
    from mvcore.data.sources import from_anndata, from_mudata, from_torch_dataset
    from mvcore.evaluation.evaluate import evaluate
    from mvcore.files import load, save
    from mvcore.imputation import embed, impute
    from mvcore.models.multimodal import MultimodalVAE
    from mvcore.plugins.local import local
    from mvcore.training.fit import Run, fit

_HOME = {
    "Batch": "data.batch",
    "ModalitySpec": "data.schema",
    "MultimodalDataset": "data.dataset",
    "MultimodalVAE": "models.multimodal",
    "Run": "training.fit",
    "Schema": "data.schema",
    "create": "api",
    "dataset": "api",
    "embed": "imputation",
    "evaluate": "evaluation.evaluate",
    "fit": "training.fit",
    "from_anndata": "data.sources",
    "from_frames": "data.frames",
    "from_mudata": "data.sources",
    "from_torch_dataset": "data.sources",
    "impute": "imputation",
    "load": "files",
    "local": "plugins.local",
    "mar": "data.missing",
    "mcar": "data.missing",
    "mnar": "data.missing",
    "save": "files",
}

__all__ = [
    "Batch",
    "ModalitySpec",
    "MultimodalDataset",
    "MultimodalVAE",
    "Run",
    "Schema",
    "create",
    "dataset",
    "embed",
    "evaluate",
    "fit",
    "from_anndata",
    "from_frames",
    "from_mudata",
    "from_torch_dataset",
    "impute",
    "load",
    "local",
    "mar",
    "mcar",
    "mnar",
    "save",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'mvcore' has no attribute {name!r}")
    return getattr(import_module(f"mvcore.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
