"""Likelihoods of 0/1 values and of categories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F

from mvcore.data.schema import ModalitySpec
from mvcore.errors import ConfigError
from mvcore.likelihoods.base import Likelihood
from mvcore.likelihoods.observations import Observation
from mvcore.likelihoods.specs import BernoulliConfig, CategoricalConfig


@final
@dataclass(frozen=True)
class BernoulliObservation(Observation):
    """Independent 0/1 values; intensities in [0, 1] are scored by the same cross-entropy."""

    logits: Tensor

    @property
    def mean(self) -> Tensor:
        return self.logits.sigmoid()

    @property
    def stddev(self) -> Tensor:
        return (self.logits.sigmoid() * (-self.logits).sigmoid()).sqrt()

    def sample(self, k: int = 1) -> Tensor:
        return torch.bernoulli(self.mean.expand(k, *self.logits.shape))

    def values_log_prob(self, x: Tensor) -> Tensor:
        return x * self.logits - F.softplus(self.logits)


@final
@dataclass(frozen=True)
class CategoricalObservation(Observation):
    """Independent categories; logits are ``(..., P, *shape)``, observations integers 0 .. P − 1."""

    logits: Tensor

    @property
    def mean(self) -> Tensor:
        return self.logits.softmax(-self.event_dims - 1)

    @property
    def stddev(self) -> Tensor:
        return (self.mean * (1 - self.mean)).sqrt()

    def sample(self, k: int = 1) -> Tensor:
        last = self.mean.movedim(-self.event_dims - 1, -1)
        drawn = torch.multinomial(last.flatten(0, -2), k, replacement=True)
        values: Tensor = drawn.T.unflatten(1, last.shape[:-1])
        return values

    def values_log_prob(self, x: Tensor) -> Tensor:
        dim = -self.event_dims - 1
        log_p = self.logits.log_softmax(dim)
        shape = (*log_p.shape[:dim], *log_p.shape[dim + 1 :])
        return log_p.gather(dim, x.expand(shape).unsqueeze(dim)).squeeze(dim)


@final
class BernoulliLikelihood(Likelihood):
    """Independent 0/1 values; the decoder gives logits."""

    def forward(self, outputs: Tensor) -> Observation:
        """The distribution for logits ``(..., 1, *shape)``."""
        return BernoulliObservation(len(self.shape), self.first(outputs))

    def check(self, x: Tensor) -> str | None:
        """Values outside [0, 1]."""
        if bool(((x < 0) | (x > 1)).any()):
            return f"a bernoulli likelihood needs values in [0, 1], got {x.min().item():g} to {x.max().item():g}"
        return None


@final
class CategoricalLikelihood(Likelihood):
    """Independent categories; the decoder gives one logit for each."""

    def __init__(self, shape: Sequence[int], categories: int) -> None:
        super().__init__(shape)
        self.n_outputs = categories

    def forward(self, outputs: Tensor) -> Observation:
        """The distribution for logits ``(..., P, *shape)``."""
        return CategoricalObservation(len(self.shape), outputs)

    def check(self, x: Tensor) -> str | None:
        """Values that are no category."""
        if x.is_floating_point() or bool(((x < 0) | (x >= self.n_outputs)).any()):
            return f"a categorical likelihood needs integers 0 to {self.n_outputs - 1}, got {x.dtype}"
        return None


def build_bernoulli(config: BernoulliConfig, *, modality: ModalitySpec) -> BernoulliLikelihood:
    """Independent 0/1 values."""
    return BernoulliLikelihood(modality.shape)


def build_categorical(config: CategoricalConfig, *, modality: ModalitySpec) -> CategoricalLikelihood:
    """Independent categories."""
    if modality.categories is None:
        raise ConfigError([f"{modality.name}: a categorical likelihood needs the schema to say how many categories"])
    return CategoricalLikelihood(modality.shape, modality.categories)
