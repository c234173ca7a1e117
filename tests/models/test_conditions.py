"""A modality without a decoder is a condition: it is read, and neither generated, imputed, scored nor measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import final

import numpy as np
import pytest
import torch
from torch import Tensor

import mvcore
from mvcore.data import Batch, MultimodalDataset
from mvcore.data.transforms import InputTransform
from mvcore.distributions import Diagonal, DiagonalNormal, JointDistribution, Mixture
from mvcore.errors import NotApplicableError
from mvcore.inference import Encodings, log_likelihoods
from mvcore.likelihoods import Observation
from mvcore.losses import LossOutput
from mvcore.metrics import cell_coverage
from mvcore.models import Model
from mvcore.nn import MLPEncoder
from mvcore.testing import LinearGaussian, all_patterns

SIZES = {"a": 5, "b": 6, "c": 4}


@final
class Given(Model):
    """p(a | b, c): z is normal about a sum of what the conditions say, with scale 1, and decoded to a alone."""

    def __init__(self, world: LinearGaussian) -> None:
        super().__init__(
            world.schema,
            inputs={m.name: InputTransform(m.shape, "standardize", None) for m in world.schema},
            encoders={m.name: MLPEncoder(m.shape, 2, hidden=(4,)) for m in world.schema},
            decoders={"a": world.decoders()["a"]},
        )

    def forward(self, batch: Batch, *, epoch: float = math.inf, stage: str | None = None) -> LossOutput:
        latents = self.prior(self.encode_modalities(batch)).draw(1)
        scored = log_likelihoods(self, batch, latents)
        return LossOutput.from_rows({m: -v.mean(0) for m, v in scored.items()})

    def encode_modalities(self, batch: Batch) -> Encodings:
        return Encodings(batch, {m: e.loc for m, e in self.encode_each(batch).items()})

    def posterior(self, encodings: Encodings) -> JointDistribution:
        return self.prior(encodings)

    def prior(self, encodings: Encodings | None = None) -> JointDistribution:
        rows = 1 if encodings is None else len(encodings.batch)
        loc = torch.zeros(rows, 2, device=self.device)
        for m in () if encodings is None else set(encodings.experts) - {"a"}:
            loc = loc.index_add(0, encodings.batch.rows(m), encodings.experts[m])
        density: Diagonal = DiagonalNormal(loc, torch.zeros_like(loc))
        mixture = Mixture(density[None], loc.new_ones(1, rows), torch.ones(1, rows, dtype=torch.bool))
        return JointDistribution(mixture, {}, None if encodings is None else encodings.batch)

    def decode(self, latents: Mapping[str, Tensor], name: str, context: Tensor | None = None) -> Observation:
        observation: Observation = self.decoders[name](latents["shared"], context)
        return observation


@pytest.fixture
def data() -> MultimodalDataset:
    world = LinearGaussian(SIZES, 2)
    batch = world.sample(70, observed=all_patterns(3).repeat(10, 1))
    single = Batch({m: x.float() for m, x in batch.x.items()}, batch.observed)
    return MultimodalDataset.from_batch(world.schema, single, labels=np.arange(70) % 2)


@pytest.fixture
def batch(data: MultimodalDataset) -> Batch:
    return data.batch()


@pytest.fixture
def model(data: MultimodalDataset) -> Given:
    made = Given(LinearGaussian(SIZES, 2)).float()
    made.fit_transforms(data)
    return made


def test_what_has_a_decoder_is_generated_and_imputed_alone(model: Given, batch: Batch) -> None:
    assert model.generated == ("a",)
    assert set(model.generate(3)) == set(model.generate(3, given=batch.without(["a"]))) == {"a"}
    filled = model.impute(batch, K=4)
    assert set(filled) == {"a"}
    assert torch.equal(filled["a"][batch.rows("a")], batch.x["a"])


def test_a_likelihood_is_that_of_what_is_generated_and_0_in_rows_without_it(model: Given, batch: Batch) -> None:
    score = model.log_likelihood(batch, K=50)
    assert (score == 0).tolist() == (~batch.column("a")).tolist()
    assert torch.equal(model.conditional_log_likelihood(batch, ["a"]).isnan(), ~batch.column("a"))


def test_a_density_of_a_condition_does_not_apply(model: Given, batch: Batch) -> None:
    with pytest.raises(
        NotApplicableError, match=r"This Given has no density of 'b'.*it generates, imputes and scores a"
    ):
        model.conditional_log_likelihood(batch, ["a", "b"], ["c"])
    with pytest.raises(NotApplicableError, match="no density of 'c'"):
        model.observe(model.encode(batch).values, "c", batch)
    assert model.conditional_log_likelihood(batch, ["a"], ["b"]).shape == (70,)


def test_metrics_speak_of_what_is_generated_and_leave_out_rows_without_it(
    model: Given, data: MultimodalDataset
) -> None:
    classifiers = {m: lambda x: torch.zeros(len(x), 2) for m in SIZES}
    report = mvcore.evaluate(model, data, train=data, K=50, resources={"classifiers": classifiers})
    for name in ("imputation", "reconstruction", "interval_coverage", "conditional_log_likelihood"):
        assert {key.partition("/")[0] for key in report.under(name)} == {"a"}, name
    assert set(report.under("coherence/to")) == {"a"}
    score = model.log_likelihood(data.batch(), K=2_000)[data.batch().column("a")].mean()
    assert report.values["log_likelihood"] == pytest.approx(float(score), rel=0.05)
    lacking = data.select(~data.batch().column("a"))
    with pytest.raises(NotApplicableError, match="No test row has what the model generates: a"):
        mvcore.evaluate(model, lacking, metrics=["log_likelihood"])


def test_tables_and_cells_are_those_of_what_is_generated(model: Given, data: MultimodalDataset) -> None:
    assert set(mvcore.impute(model, data, interval=0.8, K=20)) == {"a"}
    assert [each.modality for each in cell_coverage(model, data, interval=0.8, K=20)] == ["a"]


def test_conditions_are_scaled_by_the_training_rows(model: Given, batch: Batch) -> None:
    seen = model.inputs["b"](batch.x["b"], None)
    torch.testing.assert_close(seen.mean(0), torch.zeros(6), atol=1e-5, rtol=0)
    assert "b" not in model.decoders
