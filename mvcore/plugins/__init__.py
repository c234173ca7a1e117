"""Plugins: what one declares, how it is found, what a saved model needs."""

from typing import TYPE_CHECKING

from mvcore.faces import face

if TYPE_CHECKING:
    from mvcore.plugins.registry import Entry as Entry, Registry as Registry
    from mvcore.plugins.requires import check as check, components as components, requirements as requirements
    from mvcore.plugins.spec import (
        API as API,
        KINDS as KINDS,
        Checked as Checked,
        ComponentConfig as ComponentConfig,
        ComponentSpec as ComponentSpec,
        DatasetConfig as DatasetConfig,
        DecoderConfig as DecoderConfig,
        EncoderConfig as EncoderConfig,
        LikelihoodConfig as LikelihoodConfig,
        LossConfig as LossConfig,
        MetricConfig as MetricConfig,
        ModelConfig as ModelConfig,
        ModelFacts as ModelFacts,
        PosteriorConfig as PosteriorConfig,
        PriorConfig as PriorConfig,
        SamplerConfig as SamplerConfig,
        Support as Support,
    )
else:
    __all__, __getattr__, __dir__ = face(
        __name__,
        {
            "registry": ("Entry", "Registry"),
            "requires": ("check", "components", "requirements"),
            "spec": (
                "API",
                "Checked",
                "ComponentConfig",
                "ComponentSpec",
                "DatasetConfig",
                "DecoderConfig",
                "EncoderConfig",
                "KINDS",
                "LikelihoodConfig",
                "LossConfig",
                "MetricConfig",
                "ModelConfig",
                "ModelFacts",
                "PosteriorConfig",
                "PriorConfig",
                "SamplerConfig",
                "Support",
            ),
        },
    )
