"""DCCAE for mvcore: autoencoders whose codes correlate. Importing this module imports no torch."""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen

from mvcore.models import PartsConfig
from mvcore.plugins import ComponentSpec, ModelFacts
from mvcore.validators import not_negative, positive


@frozen(kw_only=True)
class DCCAEConfig(PartsConfig):
    """An autoencoder for each modality, whose codes correlate as much as they can."""

    correlation: float = field(default=10.0, validator=not_negative)
    """Weight λ of the multiset canonical correlation of the codes, at most D, beside reconstructions in nats. The paper
    weighs the reconstruction instead, by a number that is chosen for each data set."""
    ridge: float = field(default=1e-4, validator=positive)
    """What is added to the variances of the codes in the correlation, so that what is inverted is positive definite."""
    reconstruct: Literal["every", "own"] = "every"
    """``own``: each modality from its own code, as in the paper. The codes of two modalities then agree up to a linear
    map alone, which nothing fixes, so that one can't be decoded into the other. ``every``: each modality from each code
    of its row, which fixes it; what mvcore does by default, since its models impute."""


spec = ComponentSpec(
    api=1,
    config=DCCAEConfig,
    build="mvcore_dccae.model:build",
    summary="Autoencoders with canonically correlated codes (Wang et al., 2015)",
    paper="https://proceedings.mlr.press/v37/wangb15.html",
    partial_data="Each row trains the autoencoders of what it has; each pair of modalities correlates over the rows of "
    "a batch that have both.",
    facts=ModelFacts(
        kind="autoencoders, correlated",
        private="no",
        likelihood="none",
        subsets="the mean of the codes of what is given",
        cost="M decodings of each modality, or one; M² small matrices",
    ),
)
