"""A model whose config is a bare ``ModelConfig``, without the parts of modalities, is built and checked like any."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping

import pytest
import torch
from attrs import field, frozen
from torch import Tensor

import mvcore
from mvcore.data import Affine, Batch, InputTransform, Schema
from mvcore.distributions import JointDistribution, Mixture
from mvcore.inference import Encodings, log_likelihoods
from mvcore.likelihoods import LikelihoodDecoder, NormalLikelihood, Observation
from mvcore.losses import LossOutput
from mvcore.models import Model
from mvcore.nn import MLPDecoder, MLPEncoder
from mvcore.plugins import ComponentSpec, ModelConfig
from mvcore.posteriors import ProductOfExperts
from mvcore.priors import StandardPrior
from mvcore.testing import conformance


@frozen(kw_only=True)
class PlainConfig(ModelConfig):
    """A product of experts whose networks are what they are."""

    width: int = field(default=8)
    """Width of the hidden layers."""


class Plain(Model):
    """The product of experts, written out."""

    def __init__(self, schema: Schema, config: PlainConfig) -> None:
        hidden = (config.width,)
        decoders = {
            m.name: LikelihoodDecoder(
                MLPDecoder(2, m.shape, hidden=hidden), NormalLikelihood(m.shape), Affine(m.shape, "standardize")
            )
            for m in schema
        }
        super().__init__(
            schema,
            inputs={m.name: InputTransform(m.shape, "standardize", m.categories) for m in schema},
            encoders={m.name: MLPEncoder(m.input_shape, 2, hidden=hidden) for m in schema},
            decoders=decoders,
            config=config,
        )
        self.joint_posterior, self.latent_prior = ProductOfExperts(schema.names), StandardPrior(2)

    def forward(self, batch: Batch, *, epoch: float = math.inf, stage: str | None = None) -> LossOutput:
        q = self.posterior(self.encode_modalities(batch))
        latents = q.draw()
        rows = {m: -latents.mean(v) for m, v in log_likelihoods(self, batch, latents).items()}
        return LossOutput.from_rows({**rows, "kl": q.shared.kl(self.latent_prior())})

    def encode_modalities(self, batch: Batch) -> Encodings:
        return Encodings(batch, self.encode_each(batch))

    def posterior(self, encodings: Encodings) -> JointDistribution:
        prior: Mixture = self.latent_prior()
        shared = self.joint_posterior(encodings.experts, encodings.batch, prior)
        return JointDistribution(shared, {}, encodings.batch)

    def prior(self, encodings: Encodings | None = None) -> JointDistribution:
        return JointDistribution(self.latent_prior(), {}, None if encodings is None else encodings.batch)

    def decode(self, latents: Mapping[str, Tensor], name: str, context: Tensor | None = None) -> Observation:
        observation: Observation = self.decoders[name](latents["shared"], context)
        return observation


def build(config: PlainConfig, schema: Schema) -> Plain:
    """The model; its transforms are fitted to nothing, so that checks may call it without training."""
    model = Plain(schema, config)
    for affine in (m for m in model.modules() if isinstance(m, Affine)):
        affine.fitted.fill_(True)
    return model


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # the builder is named by its module, which pytest's importlib mode may not have put there
    monkeypatch.setitem(sys.modules, "bare_config", sys.modules[__name__])
    with mvcore.local(ComponentSpec(api=1, config=PlainConfig, build="bare_config:build"), "plain"):
        yield


def test_a_model_with_a_bare_config_is_created_trained_and_imputes(plain: None) -> None:
    data = mvcore.MultimodalDataset({"a": torch.randn(12, 3), "b": torch.randn(12, 2)}, {"b": torch.arange(12) > 3})
    model = mvcore.create("plain", data, width=4)
    mvcore.fit(model, data, epochs=1, progress=False)
    assert model.impute(data.batch())["b"].shape == (12, 2)


@pytest.mark.parametrize("check", ["submodels", "neighbours", "subsets", "state", "no_rows", "gradients"])
def test_a_model_with_a_bare_config_is_checked_as_any_other(plain: None, check: str) -> None:
    getattr(conformance, check)(conformance.Case("model", "plain"))
