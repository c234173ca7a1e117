"""Models without a density say so: a small autoencoder of each modality, written as a third party would."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pytest
import torch
from attrs import frozen

import mvcore
from mvcore.build import build_parts
from mvcore.data import Batch, Schema
from mvcore.errors import NotApplicableError
from mvcore.evaluation import Evaluation
from mvcore.losses import LossOutput
from mvcore.metrics import Coherence
from mvcore.models import Autoencoder, PartsConfig
from mvcore.plugins import ComponentSpec, ModelFacts
from mvcore.testing import LinearGaussian, all_patterns, conformance

SIZES = {"a": 5, "b": 6, "c": 4}


@frozen(kw_only=True)
class PlainConfig(PartsConfig):
    """An autoencoder of each modality."""


class Plain(Autoencoder):
    """Each modality is decoded from each code of its row."""

    def forward(self, batch: Batch, *, epoch: float = math.inf, stage: str | None = None) -> LossOutput:
        batch = self.widened(batch)
        return LossOutput.from_rows(self.reconstruction_from_each(batch, self.encode_modalities(batch).experts))


def build(config: PlainConfig, schema: Schema) -> Plain:
    return Plain(schema, parts=build_parts(config, schema), latent_dim=config.latent_dim, config=config)


def spec(likelihood: str) -> ComponentSpec:
    facts = ModelFacts(kind="autoencoder", private="no", likelihood=likelihood, subsets="mean of codes", cost="M²")
    return ComponentSpec(api=1, config=PlainConfig, build="test_autoencoder:build", facts=facts)


@pytest.fixture(autouse=True)
def _named(monkeypatch: pytest.MonkeyPatch) -> None:
    # the builder is named by its module, which pytest's importlib mode may not have put there
    monkeypatch.setitem(sys.modules, "test_autoencoder", sys.modules[__name__])


@pytest.fixture
def plain() -> Iterator[None]:
    with mvcore.local(spec("none"), "plain"):
        yield


@pytest.fixture
def model(plain: None) -> Autoencoder:
    world = LinearGaussian(SIZES, 2)
    torch.manual_seed(0)
    made = mvcore.create("plain", world.schema, latent_dim=2, **PARTS).double()
    assert isinstance(made, Autoencoder)
    return made


PARTS = {f"modalities.{m}.{p}": v for m in SIZES for p, v in {
    "input": "none", "target": "none", "encoder.hidden": [7], "decoder.hidden": [7]}.items()}  # fmt: skip


@pytest.fixture
def batch() -> Batch:
    return LinearGaussian(SIZES, 2).sample(14, observed=all_patterns(3).repeat(2, 1))


def test_the_posterior_of_every_subset_is_the_mean_of_its_codes(model: Autoencoder, batch: Batch) -> None:
    codes = {m: model.encoders[m](batch.x[m], None, None).loc for m in SIZES}
    encodings = model.encode_modalities(batch)
    for size in range(4):
        for given in combinations(SIZES, size):
            q = model.posterior(encodings.only(given))
            for row in range(len(batch)):
                own = [codes[m][(batch.rows(m) == row).nonzero()[0, 0]] for m in given if batch.column(m)[row]]
                mean = torch.stack(own).mean(0) if own else torch.zeros(2, dtype=torch.float64)
                torch.testing.assert_close(q.point()["shared"][0, row], mean)
                assert (q.draw(3)["shared"][:, row] == q.point()["shared"][0, row]).all()


def test_each_modality_is_reconstructed_from_each_code_of_its_row_or_from_its_own(
    model: Autoencoder, batch: Batch
) -> None:
    codes = model.encode_modalities(batch).experts
    each, own = model.reconstruction_from_each(batch, codes), model.reconstruction_from_own(batch, codes)
    for row in range(len(batch)):
        one = batch.select(torch.tensor([row]))
        have = [m for m in SIZES if one.column(m)[0]]
        code = model.encode_modalities(one).experts
        for m in SIZES:
            scores = [-model.decode({"shared": code[c][None]}, m).log_prob(one.x[m])[0, 0] for c in have if m in have]
            expected = torch.stack(scores).mean() if scores else torch.zeros((), dtype=torch.float64)
            torch.testing.assert_close(each[f"reconstruction/{m}"][row], expected)
            mine = scores[have.index(m)] if m in have else torch.zeros((), dtype=torch.float64)
            torch.testing.assert_close(own[f"reconstruction/{m}"][row], mine)


def test_no_row_has_a_likelihood_and_the_error_says_what_to_measure(model: Autoencoder, batch: Batch) -> None:
    with pytest.raises(NotApplicableError, match=r"points, which have no density.*imputes, or by a probe"):
        model.log_likelihood(batch)
    for estimator in ("predictive", "ratio", "reweighted"):
        with pytest.raises(NotApplicableError, match="no density"):
            model.conditional_log_likelihood(batch, ["a"], estimator=estimator)
    q = model.posterior(model.encode_modalities(batch))
    with pytest.raises(NotApplicableError, match="no density"):
        q.log_prob(q.draw(1))


def test_it_generates_from_a_fitted_sampler_alone_which_is_saved(
    model: Autoencoder, batch: Batch, tmp_path: Path
) -> None:
    words = r"no prior.*mvcore.fit_sampler\(model, data, 'gaussian_mixture'\)"
    data = mvcore.MultimodalDataset.from_batch(model.schema, batch)
    for call in (lambda: model.generate(2), lambda: mvcore.fit_sampler(model, data, "prior"), model.prior().point):
        with pytest.raises(NotApplicableError, match=words):
            call()
    assert model.sampler is None
    mvcore.fit_sampler(model, data, {"use": "gaussian_mixture", "components": 2})
    drawn = model.generate(400)
    codes = model.embed(batch)
    centre = model.sampler.means.T @ model.sampler.weights
    torch.testing.assert_close(centre, codes.mean(0), atol=1e-5, rtol=0)
    assert drawn["a"].shape == (400, 5)
    assert model.generate(2, given=batch)["b"].shape == (2, 14, 6)  # rows need no prior


def test_evaluation_lists_what_does_not_apply(model: Autoencoder, batch: Batch) -> None:
    data = mvcore.MultimodalDataset.from_batch(model.schema, batch, labels=torch.arange(14) % 2)
    report = mvcore.evaluate(model, data, train=data, K=2)
    for name in ("log_likelihood", "conditional_log_likelihood"):
        assert "no density" in report.skipped[name]
        with pytest.raises(NotApplicableError, match=f"'{name}' can't be computed.*no density"):
            mvcore.evaluate(model, data, metrics=[name])
    assert {"imputation/a", "linear_probe/observed", "reconstruction/a/mse"} <= set(report.values)


def test_the_coherence_of_what_is_generated_is_that_of_the_sampler(model: Autoencoder, batch: Batch) -> None:
    data = mvcore.MultimodalDataset.from_batch(model.schema, batch, labels=torch.arange(14) % 2)
    classifiers = {m: lambda x: (x.sum(1) > 0).long() for m in SIZES}
    e = Evaluation(model, data, resources={"classifiers": classifiers})
    assert "coherence/1_inputs" in Coherence()(e)
    assert "no prior" in e.skipped["coherence/unconditional"]
    mvcore.fit_sampler(model, data, {"use": "gaussian_mixture", "components": 2})
    e = Evaluation(model, data, resources={"classifiers": classifiers})
    values, drawn = Coherence()(e), model.generate(1000, generator=None)
    named = torch.stack([classifiers[m](drawn[m]) for m in SIZES])
    share = float((named == named[0]).all(0).double().mean())
    assert values["coherence/unconditional"] == pytest.approx(share, abs=5 / math.sqrt(1000))


@pytest.mark.parametrize("check", ["submodels", "neighbours", "order", "subsets", "density", "state", "no_rows",
                                   "gradients", "covariates", "cells", "views"])  # fmt: skip
def test_it_is_checked_as_any_other(plain: None, check: str) -> None:
    getattr(conformance, check)(conformance.Case("model", "plain"))


def test_facts_that_do_not_say_none_are_held_against_it() -> None:
    with (
        mvcore.local(spec("importance sampling"), "plain"),
        pytest.raises(AssertionError, match=r"the likelihood of \('a',\) is not applicable, and the facts say 'import"),
    ):
        conformance.density(conformance.Case("model", "plain"))


def test_facts_that_say_none_of_a_model_with_a_density_are_held_against_it(monkeypatch: pytest.MonkeyPatch) -> None:
    case = conformance.Case("model", "multimodal")
    facts = ModelFacts(kind="", private="", likelihood="none", subsets="", cost="")
    monkeypatch.setattr(case, "spec", ComponentSpec(api=1, config=case.spec.config, build=case.spec.build, facts=facts))
    with pytest.raises(AssertionError, match=r"the likelihood of \('a',\) is there, and the facts say 'none'"):
        conformance.density(case)


def test_a_code_gives_every_parameter_of_its_encoder_a_gradient() -> None:
    """Also those of a scale, which takes no part: one without a gradient stops distributed training."""
    loc, log_scale = torch.randn(2, 3, 2, requires_grad=True).unbind()
    code = mvcore.distributions.Encoded(loc, log_scale).code
    assert torch.equal(code, loc)
    (gradient,) = torch.autograd.grad(code.sum(), log_scale)
    assert torch.equal(gradient, torch.zeros(3, 2))
