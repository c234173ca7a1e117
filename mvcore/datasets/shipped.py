"""The data sets that come with the package."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from mvcore.data.dataset import MultimodalDataset

if TYPE_CHECKING:
    from mvcore.datasets.specs import MfeatConfig, MiniACCConfig


def build_mfeat(config: MfeatConfig) -> MultimodalDataset:
    """UCI Multiple Features: 2,000 digits in six views, complete; labels are the digits."""
    arrays = _read("mfeat")
    return MultimodalDataset({name: arrays[name] for name in arrays if name != "labels"}, labels=arrays["labels"])


def build_miniacc(config: MiniACCConfig) -> MultimodalDataset:
    """Adrenocortical carcinoma: 92 patients in five blocks; labels are the vital status (1: died)."""
    arrays = _read("miniacc")
    patients = {p: i for i, p in enumerate(arrays["patients"])}
    blocks = {"rna": "RNASeq2GeneNorm", "cna": "gistict", "protein": "RPPAArray", "mutation": "Mutations",
              "mirna": "miRNASeqGene"}  # fmt: skip
    values: dict[str, Any] = {}
    masks: dict[str, Any] = {}
    for name, block in blocks.items():
        rows = np.array([patients[p] for p in arrays[f"{block}_patients"]])
        values[name] = np.full((len(patients), arrays[block].shape[1]), np.nan, np.float32)
        values[name][rows] = np.log1p(arrays[block]) if config.log1p and name in ("rna", "mirna") else arrays[block]
        masks[name] = np.isin(np.arange(len(patients)), rows)
    return MultimodalDataset(
        values,
        masks,
        likelihoods={"mutation": "bernoulli"},
        labels=arrays["vital_status"],
        ids=arrays["patients"],
        columns={name: arrays[f"{block}_features"].tolist() for name, block in blocks.items()},
    )


def _read(name: str) -> dict[str, Any]:
    with resources.as_file(resources.files("mvcore.datasets") / "files" / f"{name}.npz") as path, np.load(path) as file:
        return {key: file[key] for key in file.files}
