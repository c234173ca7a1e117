"""Plugins: what one declares (``spec``), how it is found (``registry``), what a saved model needs (``requires``)."""

from mvcore.checked import Checked
from mvcore.plugins.registry import Entry, Registry
from mvcore.plugins.requires import check, components, requirements
from mvcore.plugins.spec import (
    API,
    KINDS,
    ComponentConfig,
    ComponentSpec,
    DatasetConfig,
    DecoderConfig,
    EncoderConfig,
    LikelihoodConfig,
    LossConfig,
    MetricConfig,
    ModelConfig,
    ModelFacts,
    PosteriorConfig,
    PriorConfig,
    SamplerConfig,
)

__all__ = [
    "API",
    "KINDS",
    "Checked",
    "ComponentConfig",
    "ComponentSpec",
    "DatasetConfig",
    "DecoderConfig",
    "EncoderConfig",
    "Entry",
    "LikelihoodConfig",
    "LossConfig",
    "MetricConfig",
    "ModelConfig",
    "ModelFacts",
    "PosteriorConfig",
    "PriorConfig",
    "Registry",
    "SamplerConfig",
    "check",
    "components",
    "requirements",
]
