"""What the suites are for: each planted fault is caught by the check that is meant to."""

from typing import Any

import pytest
import torch
from torch import Tensor

import mvcore
from mvcore.distributions.diagonal import Diagonal, DiagonalNormal
from mvcore.evaluation import figures
from mvcore.likelihoods.real import NormalLikelihood, NormalObservation
from mvcore.losses.base import LossOutput
from mvcore.losses.elbo import ELBO
from mvcore.losses.passes import Pass
from mvcore.metrics import linear_probe
from mvcore.nn.mlp import MLPEncoder
from mvcore.posteriors.product import ProductOfExperts
from mvcore.testing import components, conformance, networks
from mvcore.testing.conformance import Case
from mvcore.testing.suites import ModelSuite, SuiteError


def test_a_model_whose_rows_depend_on_their_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = MLPEncoder.forward

    def leaking(self: MLPEncoder, x: Tensor, mask: Tensor | None = None, context: Tensor | None = None) -> Any:
        return forward(self, x - x.mean(0), mask, context)

    monkeypatch.setattr(MLPEncoder, "forward", leaking)
    with pytest.raises(AssertionError, match="mean of its rows"):
        conformance.neighbours(Case("model", "multimodal"))
    with pytest.raises(AssertionError, match="depends on its neighbours"):
        networks.network(Case("encoder", "mvcore:mlp", {"hidden": [8]}))


def test_a_model_whose_rows_depend_on_their_neighbours_in_training_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As batch normalisation does: in evaluation mode nothing shows."""
    forward = MLPEncoder.forward

    def leaking(self: MLPEncoder, x: Tensor, mask: Tensor | None = None, context: Tensor | None = None) -> Any:
        return forward(self, x - x.mean(0) if self.training else x, mask, context)

    monkeypatch.setattr(MLPEncoder, "forward", leaking)
    fields = {"modality_dropout": 0.0, **{f"modalities.{m}.decoder.dropout": 0.0 for m in "abc"}}
    with pytest.raises(AssertionError, match="mean of its rows"):
        conformance.neighbours(Case("model", "multimodal", fields))


def test_a_likelihood_that_is_not_normalised(monkeypatch: pytest.MonkeyPatch) -> None:
    log_prob = NormalObservation.values_log_prob
    monkeypatch.setattr(NormalObservation, "values_log_prob", lambda self, x: log_prob(self, x) + 0.1)
    with pytest.raises(AssertionError):
        networks.normalised(Case("likelihood", "normal"))
    networks.moments(Case("likelihood", "normal"))


def test_draws_that_are_not_of_the_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = NormalObservation.sample
    monkeypatch.setattr(NormalObservation, "sample", lambda self, k=1: sample(self, k) + 0.1)
    with pytest.raises(AssertionError, match="mean of the draws"):
        networks.moments(Case("likelihood", "normal"))


def test_a_parameter_that_no_loss_reaches(monkeypatch: pytest.MonkeyPatch) -> None:
    def with_spare(self: NormalLikelihood, *args: Any, **options: Any) -> None:
        init(self, *args, **options)
        self.spare = torch.nn.Parameter(torch.zeros(1))

    init = NormalLikelihood.__init__
    monkeypatch.setattr(NormalLikelihood, "__init__", with_spare)
    with pytest.raises(AssertionError, match="spare"):
        conformance.gradients(Case("model", "multimodal"))


def test_a_spec_that_imports_torch() -> None:
    case = Case("encoder", "mvcore:mlp")
    conformance.spec_without_torch(case)
    assert conformance._imports_torch("mvcore.build") == "True"


def test_overriding_a_test_raises() -> None:
    with pytest.raises(SuiteError, match="overrides 'test_neighbours'"):
        type("TestIt", (ModelSuite,), {"component": "multimodal", "test_neighbours": lambda self: None})


def test_expecting_the_failure_of_what_is_no_test_raises() -> None:
    with pytest.raises(SuiteError, match="expects 'test_neighbour' to fail"):
        type("TestIt", (ModelSuite,), {"component": "multimodal", "expected_failures": {"test_neighbour": "why"}})


def test_the_command_names_what_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from mvcore.cli import main

    good = CliRunner().invoke(main, ["check", "mvcore:normal", "--kind", "likelihood"])
    assert good.exit_code == 0, good.output
    assert [line.split(": ")[1] for line in good.output.splitlines()] == ["ok"] * 4
    log_prob = NormalObservation.values_log_prob
    monkeypatch.setattr(NormalObservation, "values_log_prob", lambda self, x: log_prob(self, x) + 0.1)
    bad = CliRunner().invoke(main, ["check", "mvcore:normal", "--kind", "likelihood"])
    assert bad.exit_code == 1
    assert "likelihood mvcore:normal normalised: failed: AssertionError" in bad.output
    assert mvcore.__version__


def test_a_prior_whose_draws_are_not_of_its_density(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case("prior", "mvcore:standard")
    components.prior_density(case)
    noise = DiagonalNormal.noise
    monkeypatch.setattr(DiagonalNormal, "noise", lambda self, shape: 1.1 * noise(self, shape))
    with pytest.raises(AssertionError, match=r"E\[q / p\] is"):
        components.prior_density(case)


def test_a_loss_that_sums_over_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = ELBO.forward

    def summed(self: ELBO, p: Pass) -> LossOutput:
        output = forward(self, p)
        return LossOutput(output.loss * len(p.batch), output.terms)

    monkeypatch.setattr(ELBO, "forward", summed)
    with pytest.raises(AssertionError, match="mean of its rows"):
        components.loss_rows(Case("loss", "mvcore:elbo"))


def test_a_posterior_that_prefers_the_first_modality(monkeypatch: pytest.MonkeyPatch) -> None:
    fuse = ProductOfExperts.fuse

    def preferring(self: ProductOfExperts, experts: Diagonal, S: Tensor) -> Diagonal:
        weight = torch.ones(len(experts.loc), 1, 1).double()
        weight[0] = 2.0
        return fuse(self, DiagonalNormal(experts.loc, experts.log_scale - 0.5 * weight.log()), S)

    monkeypatch.setattr(ProductOfExperts, "fuse", preferring)
    with pytest.raises(AssertionError, match="another order"):
        components.posterior_order(Case("posterior", "mvcore:product"))


def test_a_figure_that_does_not_know_a_report_without_values(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case("metric", "mvcore:linear_probe")
    components.metric_figure(case)
    monkeypatch.setattr(linear_probe, "draw", lambda report: figures.axes_of(1, 1, size=(2, 2))[0])
    with pytest.raises(AssertionError, match="without values is <Figure"):
        components.metric_figure(case)
    monkeypatch.setattr(linear_probe, "draw", lambda report: None)
    with pytest.raises(AssertionError, match="its values is None, not a matplotlib figure"):
        components.metric_figure(case)
