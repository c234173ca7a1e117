"""Configs and specs of the data sets that come with the package."""

from __future__ import annotations

from attrs import frozen

from mvcore.components.base import spec
from mvcore.plugins.spec import DatasetConfig


@frozen(kw_only=True)
class MfeatConfig(DatasetConfig):
    """UCI Multiple Features: 2,000 handwritten digits in six views; complete rows."""


@frozen(kw_only=True)
class MiniACCConfig(DatasetConfig):
    """Adrenocortical carcinoma (TCGA): 92 patients, five blocks, naturally partial."""

    log1p: bool = True
    """Whether the RNA and miRNA blocks come as log(1 + value), the scale on which they are modelled."""


mfeat = spec(MfeatConfig, "mfeat", "2,000 handwritten digits in six views", "https://doi.org/10.24432/C5HC70")
miniacc = spec(MiniACCConfig, "miniacc", "92 patients with adrenocortical carcinoma in five blocks, partial")
