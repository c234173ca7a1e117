"""Configs and specs of the data sets that come with the package."""

from __future__ import annotations

from attrs import frozen

from mvcore.plugins.spec import ComponentSpec, DatasetConfig


@frozen(kw_only=True)
class MfeatConfig(DatasetConfig):
    """UCI Multiple Features: 2,000 handwritten digits in six views; complete rows."""


@frozen(kw_only=True)
class MiniACCConfig(DatasetConfig):
    """Adrenocortical carcinoma (TCGA): 92 patients, five blocks, naturally partial."""

    log1p: bool = True
    """Whether the RNA and miRNA blocks come as log(1 + value), the scale on which they are modelled."""


mfeat = ComponentSpec(
    api=1,
    config=MfeatConfig,
    build="mvcore.datasets.shipped:build_mfeat",
    summary="2,000 handwritten digits in six views",
    paper="https://doi.org/10.24432/C5HC70",
)
miniacc = ComponentSpec(
    api=1,
    config=MiniACCConfig,
    build="mvcore.datasets.shipped:build_miniacc",
    summary="92 patients with adrenocortical carcinoma in five blocks, partial",
)
