"""Nexus for mvcore: a latent for each modality under one shared latent. Importing this module imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import attrs
from attrs import Attribute, field, frozen, validators

from mvcore.data import Schema
from mvcore.errors import ConfigError
from mvcore.models import PartsConfig
from mvcore.plugins import ComponentSpec, ModelFacts


def _numbers(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, Mapping) else [value]


def _positive(instance: Any, attribute: Attribute[Any], value: Any) -> None:
    if not all(v > 0 for v in _numbers(value)):
        raise ValueError(f"{attribute.name} must be greater than 0, got {value!r}")


def _not_negative(instance: Any, attribute: Attribute[Any], value: Any) -> None:
    if not all(v >= 0 for v in _numbers(value)):
        raise ValueError(f"{attribute.name} must be 0 or greater, got {value!r}")


@frozen(kw_only=True)
class NexusConfig(PartsConfig):
    """A VAE for each modality, and above them one whose data are their latents.

    Where a field takes a table, a modality that it leaves out keeps the field's default.
    """

    latent_dim: int = field(default=32, validator=validators.gt(0))
    """Dimensions D of the shared latent z_σ; 32 is the official code's for four modalities, 16 that for two."""
    bottom_dim: int | Mapping[str, int] = field(default=64, validator=_positive)
    """Dimensions of each modality's own latent z_m; 64 is the official code's for images (16 for trajectories)."""
    message_dim: int = field(default=512, validator=validators.gt(0))
    """Width of the messages; 512 is the official code's. Each is a linear map of its z_m, as there."""
    top_hidden: tuple[int, ...] = field(default=(512, 512), validator=validators.deep_iterable(validators.gt(0)))
    """Hidden widths of the top encoder; the official code's. The top decoders have one more, of ``message_dim``."""
    aggregator: Literal["mean"] = "mean"
    """How the messages of a row become one: their mean (paper)."""
    beta: float | Mapping[str, float] = field(default=1.0, validator=_not_negative)
    """Weight β_m of KL(q(z_m|x_m)‖p); 1 in the official code."""
    beta_top: float = field(default=1.0, validator=_not_negative)
    """Weight of KL(q(z_σ|messages)‖p); 1 in the official code."""
    gamma: float | Mapping[str, float] = field(default=1.0, validator=_not_negative)
    """Weight γ_m of −log p(z_m|z_σ) in the loss; never part of a likelihood estimate. At the default ``top_scale`` it
    is the official code's weight of the squared error: 1 for images, 50 for its labels and trajectories."""
    top_scale: float | Mapping[str, float] = field(default=math.sqrt(0.5), validator=_positive)
    """Standard deviation s_m of p(z_m|z_σ). The squared error has the weight γ_m / (2 s_m²); √½ makes that γ_m. A
    weight g of the official code that is to count in likelihoods too is γ_m = 1 and s_m = 1/√(2g)."""
    dropout: float = field(default=0.2, validator=[validators.ge(0), validators.le(1)])
    """ρ, the probability that a training row of two or more modalities loses messages (forced perceptual dropout); 0.2
    in the official code for four modalities, 0.1 for two."""
    warmup: float = field(default=20.0, validator=_not_negative)
    """Epochs over which all β grow linearly from 0; 20 of 100 in the official code."""
    samples: int = field(default=1, validator=validators.gt(0))
    """Draws for each row in the loss; 1 in the official code."""

    def each(self, name: str, schema: Schema) -> dict[str, Any]:
        """A field that takes a number or a table, as a number for each modality.

        Raises:
            ConfigError: If the table names a modality that the schema does not have.
        """
        value = getattr(self, name)
        if not isinstance(value, Mapping):
            return dict.fromkeys(schema.names, value)
        if unknown := [m for m in value if m not in schema.names]:
            known = ", ".join(schema.names)
            raise ConfigError([f"{name}.{m}: unknown modality (the data has {known})" for m in unknown])
        default = getattr(attrs.fields(type(self)), name).default
        return {m: value.get(m, default) for m in schema.names}


spec = ComponentSpec(
    api=1,
    config=NexusConfig,
    build="mvcore_nexus.model:build",
    summary="A latent for each modality under one shared latent (Vasco et al., 2022)",
    paper="https://doi.org/10.1016/j.neunet.2021.11.019",
    partial_data="Each row trains the VAEs of what it has, and the top on their messages; absent ones cost nothing.",
    facts=ModelFacts(
        kind="hierarchy",
        private="yes",
        likelihood="importance sampling through both levels",
        subsets="closed form: the mean of the messages of what is given",
        cost="M densities and a top of M small decoders",
    ),
)
