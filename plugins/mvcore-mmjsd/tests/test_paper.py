"""The laws of mmJSD (Sutter et al., 2020): on linear maps, whose posteriors are known, with arbitrary encoders."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

import mvcore
from mvcore.data import Schema
from mvcore.errors import ConfigError
from mvcore.models import Model
from mvcore.testing import (
    LinearGaussian,
    all_patterns,
    sigma_points,
    small,
)

SIZES = {"a": 5, "b": 6, "c": 4}
D = 2
STANDARD = Normal(torch.zeros(D).double(), torch.ones(D).double())


@pytest.fixture
def world() -> LinearGaussian:
    return LinearGaussian(SIZES, D)


@pytest.fixture
def batch(world: LinearGaussian) -> mvcore.Batch:
    return world.sample(14, observed=all_patterns(3).repeat(2, 1))


def make(schema: Schema, **fields: object) -> Model:
    """mmJSD with random small encoders that draws 2D times from every component, in float64."""
    return small("mmjsd", schema, **{"loss.samples": 2 * D, "loss.stratified": True, "latent_dim": D, **fields})


def with_exact_decoders(world: LinearGaussian, **fields: object) -> Model:
    model = make(world.schema, **fields)
    model.decoders.update(world.decoders())
    return model


def experts(model: Model, batch: mvcore.Batch, row: int) -> dict[str, Normal]:
    one = batch.select(torch.tensor([row]))
    encoded = {m: model.encoders[m](one.x[m]) for m in one.names if one.column(m)[0]}
    return {m: Normal(e.loc[0], e.log_scale[0].exp()) for m, e in encoded.items()}


def dynamic_prior(parts: list[tuple[float, Normal]]) -> Normal:
    precision = sum(weight * q.scale**-2 for weight, q in parts)
    return Normal(sum(weight * q.scale**-2 * q.loc for weight, q in parts) / precision, precision**-0.5)


def expected_reconstruction(world: LinearGaussian, one: mvcore.Batch, q: Normal) -> Tensor:
    """E_q Σ_m log p(x_m | z), in closed form."""
    total = torch.zeros((), dtype=torch.float64)
    for m in one.names:
        if one.column(m)[0]:
            at_mean = Normal(world.W[m] @ q.loc + world.b[m], world.sigma[m]).log_prob(one.x[m][0]).sum()
            total = total + at_mean - 0.5 * (world.precision(m) * q.variance).sum()
    return total


@pytest.mark.parametrize("reconstruct_prior", [False, True])
@pytest.mark.parametrize(("prior_weight", "beta"), [(1.0, 1.0), (1.0, 2.5), (0.4, 1.0), (0.0, 1.0)])
def test_loss_is_the_papers_formula_in_closed_form(
    world: LinearGaussian, batch: mvcore.Batch, prior_weight: float, beta: float, reconstruct_prior: bool
) -> None:
    fields = {"loss.beta": beta, "loss.prior_weight": prior_weight, "loss.reconstruct_prior": reconstruct_prior}
    model, rows = with_exact_decoders(world, **fields), []
    for row in range(14):
        one, q_m = batch.select(torch.tensor([row])), experts(model, batch, row)
        total = len(q_m) + prior_weight
        parts = [(prior_weight / total, STANDARD), *((1 / total, q) for q in q_m.values())]
        f = dynamic_prior(parts)
        divergence = sum(weight * kl_divergence(q, f).sum() for weight, q in parts)
        drawn = parts if reconstruct_prior else [(1 / len(q_m), q) for q in q_m.values()]
        reconstruction = sum(weight * expected_reconstruction(world, one, q) for weight, q in drawn)
        rows.append(beta * divergence - reconstruction)
    with sigma_points():
        torch.testing.assert_close(model(batch).loss, torch.stack(rows).mean())


def test_without_a_prior_a_row_of_one_modality_has_no_divergence(world: LinearGaussian) -> None:
    rows = world.sample(3, observed=torch.eye(3, dtype=torch.bool))
    model = with_exact_decoders(world, **{"loss.prior_weight": 0.0})
    with sigma_points(), torch.no_grad():
        terms = model(rows).terms
    assert [float(terms[f"divergence/{k}"]) for k in ("a", "b", "c", "prior")] == pytest.approx([0] * 4, abs=1e-12)


def test_experts_that_are_the_prior_have_no_divergence(world: LinearGaussian, batch: mvcore.Batch) -> None:
    model = make(world.schema)
    for m in SIZES:
        model.encoders[m].head.linear.weight.data.zero_()
        model.encoders[m].head.linear.bias.data.zero_()
    with torch.no_grad():
        terms = model(batch).terms
    assert [float(terms[f"divergence/{k}"]) for k in ("a", "b", "c", "prior")] == pytest.approx([0] * 4, abs=1e-12)


def test_the_dynamic_prior_of_one_expert_is_half_way_to_the_prior_in_precision(world: LinearGaussian) -> None:
    """Precision λ and mean μ: f has ½(λ + 1) and λμ / (λ + 1); the two KLs follow by hand."""
    rows = world.sample(1, observed=torch.tensor([[True, False, False]]))
    model = make(world.schema)
    ((mu, scale),) = ((q.loc, q.scale) for q in experts(model, rows, 0).values())
    lam = scale**-2
    precision, mean = 0.5 * (lam + 1), lam * mu / (lam + 1)

    def kl(loc: Tensor, own: Tensor) -> Tensor:
        return 0.5 * (precision / own - 1 - (precision / own).log() + precision * (loc - mean).square()).sum()

    with torch.no_grad():
        terms = model(rows).terms
        torch.testing.assert_close(terms["divergence/a"], 0.5 * kl(mu, lam))
        torch.testing.assert_close(terms["divergence/prior"], 0.5 * kl(torch.zeros(D).double(), torch.ones(D).double()))


@pytest.mark.parametrize("reconstruct_prior", [False, True])
def test_a_random_component_agrees_in_the_mean_with_all_of_them(
    world: LinearGaussian, batch: mvcore.Batch, reconstruct_prior: bool
) -> None:
    fields = {"loss.reconstruct_prior": reconstruct_prior}
    exact = with_exact_decoders(world, **fields)
    drawn = with_exact_decoders(world, **fields, **{"loss.stratified": False, "loss.samples": 1})
    many = batch.select(torch.arange(14).repeat(400))
    torch.manual_seed(0)
    with torch.no_grad():
        losses = torch.stack([drawn(many).loss for _ in range(20)])
        with sigma_points():
            expected = exact(batch).loss
    assert abs(float(losses.mean() - expected)) < 6 * float(losses.std()) / math.sqrt(20)


def test_without_draws_from_the_prior_the_draws_are_those_of_every_other_loss(
    world: LinearGaussian, batch: mvcore.Batch
) -> None:
    """The reconstruction is that of the core's ELBO for the same random state."""
    model = with_exact_decoders(world)
    fields = {"posterior": model.config.posterior, "modalities": dict(model.config.modalities), "latent_dim": D}
    loss = {"loss.samples": 2 * D, "loss.stratified": True}
    other = mvcore.create("multimodal", world.schema, modality_dropout=0.0, **fields, **loss).double()
    other.load_state_dict(make(world.schema).state_dict())
    other.decoders.update(world.decoders())
    found = []
    for each in (model, other):
        torch.manual_seed(1)
        found.append({k: v for k, v in each(batch).terms.items() if k.startswith("reconstruction")})
    torch.testing.assert_close(found[0], found[1])


def test_private_latents_add_their_divergence_and_reconstruct_with_their_posterior() -> None:
    private = {"a": 1, "b": 2, "c": 1}
    world = LinearGaussian(SIZES, D, private)
    batch = world.sample(14, observed=all_patterns(3).repeat(2, 1))
    values = []
    for weight in (1.0, 3.0):
        model = with_exact_decoders(world, private_dim=private, **{"loss.beta_private": weight, "loss.beta": 2.0})
        model.encoders.update(world.encoders("posterior"))
        with sigma_points():
            values.append(model(batch).loss)
    law = torch.zeros(14, dtype=torch.float64)
    for m in SIZES:
        posterior = world.private_posterior(batch, m)
        law[batch.rows(m)] += posterior.kl(type(posterior).unit(private[m], like=posterior.loc))
    torch.testing.assert_close(values[1] - values[0], 2.0 * 2.0 * law.mean())


def test_modality_dropout_takes_the_experts_of_what_is_given(world: LinearGaussian, batch: mvcore.Batch) -> None:
    model = make(world.schema, modality_dropout=0.5)
    torch.manual_seed(0)
    output = model.train()(batch)
    assert output.loss.isfinite()
    assert set(output.terms) == set(make(world.schema)(batch).terms)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"posterior.subsets": "all"}, "needs a component a modality; set posterior.subsets='each', got 'all'"),
        (
            {"posterior.family": "laplace", "prior.family": "laplace"},
            "is one of normals; set posterior.family='normal', got 'laplace'",
        ),
        ({"loss.prior_weight": -1.0}, "prior_weight must be 0 or greater, got -1.0"),
        ({"loss.samples": 0}, "samples must be greater than 0, got 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(fields: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make(Schema.from_shapes({"a": (3,), "b": (2,)}), **fields)


def test_a_loss_put_together_by_hand_refuses_other_components(world: LinearGaussian, batch: mvcore.Batch) -> None:
    model = make(world.schema)
    model.joint_posterior.subsets = "all"
    with pytest.raises(ConfigError, match="needs the subsets 'each' of normal experts, the posterior has 'all'"):
        model(batch)
