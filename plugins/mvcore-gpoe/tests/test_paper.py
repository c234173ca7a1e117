"""The laws of the weighted product (Cao & Fleet, 2014): on linear maps, whose posteriors are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import mvcore
from mvcore.data import Schema
from mvcore.errors import ConfigError
from mvcore.models import Model
from mvcore.testing import (
    LinearGaussian,
    all_patterns,
    fixed_noise,
    sigma_points,
    small,
)

SIZES = {"a": 5, "b": 6, "c": 4}
D = 2
POWERS = pytest.mark.parametrize("powers", ["softmax", "free"])


@pytest.fixture
def world() -> LinearGaussian:
    return LinearGaussian(SIZES, D)


@pytest.fixture
def batch(world: LinearGaussian) -> mvcore.Batch:
    return world.sample(14, observed=all_patterns(3).repeat(2, 1))


def make(schema: Schema, **fields: object) -> Model:
    """A weighted product with random small encoders, unequal powers and 2D draws, in float64."""
    model = small("gpoe", schema, **{"loss.samples": 2 * D, "latent_dim": D, **fields})
    with torch.no_grad():
        for m in schema.names:
            model.joint_posterior.logits[m].values.copy_(torch.tensor([0.7, -1.1]) * (1 + ord(m) - ord("b")))
    return model


def equal(model: Model) -> Model:
    """The model with the logits at 0."""
    for part in model.joint_posterior.logits.values():
        part.values.data.zero_()
    return model


def precisions(model: Model, batch: mvcore.Batch, row: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and precision of each expert that a row has, straight from the encoders."""
    found = {}
    for m in batch.names:
        if batch.column(m)[row]:
            encoded = model.encoders[m](batch.select(torch.tensor([row])).x[m])
            found[m] = encoded.loc[0], (-2 * encoded.log_scale[0]).exp()
    return found


@torch.no_grad()
def test_a_rows_product_is_the_papers_formula_by_loops(world: LinearGaussian, batch: mvcore.Batch) -> None:
    model = make(world.schema)
    q = model.posterior(model.encode_modalities(batch)).shared.components[0]
    for row in range(14):
        experts = precisions(model, batch, row)
        for d in range(D):
            raw = {m: float(model.joint_posterior.logits[m].values[d].exp()) for m in experts}
            a = {m: value / sum(raw.values()) for m, value in raw.items()}
            precision = sum(a[m] * float(experts[m][1][d]) for m in experts)
            mean = sum(a[m] * float(experts[m][1][d]) * float(experts[m][0][d]) for m in experts) / precision
            assert float(q.loc[row, d]) == pytest.approx(mean)
            assert float(q.scale[row, d]) == pytest.approx(precision**-0.5)


def test_equal_powers_give_the_mean_of_the_precisions(world: LinearGaussian, batch: mvcore.Batch) -> None:
    model = equal(make(world.schema))
    q = model.posterior(model.encode_modalities(batch)).shared.components[0]
    for row in range(14):
        experts = precisions(model, batch, row)
        mean = torch.stack([precision for _, precision in experts.values()]).mean(0)
        torch.testing.assert_close(q.scale[row] ** -2, mean)


def test_a_single_expert_stays_as_it_is(world: LinearGaussian) -> None:
    rows = world.sample(3, observed=torch.eye(3, dtype=torch.bool))
    model = make(world.schema)
    q = model.posterior(model.encode_modalities(rows)).shared.components[0]
    for row in range(3):
        ((loc, precision),) = precisions(model, rows, row).values()
        torch.testing.assert_close(q.loc[row], loc)
        torch.testing.assert_close(q.scale[row] ** -2, precision)


def test_experts_that_agree_gain_no_precision(world: LinearGaussian, batch: mvcore.Batch) -> None:
    model = make(world.schema)
    for m in SIZES:
        model.encoders[m].head.linear.weight.data.zero_()
        model.encoders[m].head.linear.bias.data.copy_(torch.tensor([0.3, -0.2, -0.5, 0.4]))
    q = model.posterior(model.encode_modalities(batch)).shared.components[0]
    torch.testing.assert_close(q.loc, torch.tensor([0.3, -0.2]).double().expand(14, D))
    torch.testing.assert_close(q.log_scale, torch.tensor([-0.5, 0.4]).double().expand(14, D))


@POWERS
@pytest.mark.parametrize("beta", [1.0, 2.5])
def test_loss_is_the_likelihood_and_the_divergence_from_the_exact_posterior(
    world: LinearGaussian, batch: mvcore.Batch, powers: str, beta: float
) -> None:
    model = make(world.schema, **{"posterior.powers": powers, "loss.beta": beta})
    model.decoders.update(world.decoders())
    q = model.posterior(model.encode_modalities(batch)).shared.components[0]
    prior = type(q).unit(14, D, like=q.loc)
    law = -world.log_likelihood(batch) + q.kl(world.posterior(batch)) + (beta - 1) * q.kl(prior)
    with sigma_points():
        torch.testing.assert_close(model(batch).loss, law.mean())


def test_free_powers_of_one_on_likelihoods_are_exact(world: LinearGaussian, batch: mvcore.Batch) -> None:
    model = equal(make(world.schema, **{"posterior.powers": "free"}))
    model.encoders.update(world.encoders("likelihood"))
    model.decoders.update(world.decoders())
    with sigma_points():
        torch.testing.assert_close(model(batch).loss, -world.log_likelihood(batch).mean())
    torch.testing.assert_close(model.log_likelihood(batch, 1), world.log_likelihood(batch))


def test_free_powers_are_those_of_the_likelihoods_beside_the_prior(world: LinearGaussian, batch: mvcore.Batch) -> None:
    """With likelihoods for experts: precision 1 + Σ e^l λ_m."""
    model = make(world.schema, **{"posterior.powers": "free"})
    model.encoders.update(world.encoders("likelihood"))
    q = model.posterior(model.encode_modalities(batch)).shared.components[0]
    law = torch.ones(14, D, dtype=torch.float64)
    for m in SIZES:
        law[batch.rows(m)] += model.joint_posterior.logits[m].values.exp() * world.precision(m)
    torch.testing.assert_close(q.scale**-2, law)


@POWERS
def test_each_component_of_all_subsets_is_the_product_of_a_view_of_its_members(
    world: LinearGaussian, powers: str
) -> None:
    rows = world.sample(4)
    mixed, plain = (
        make(world.schema, **{"posterior.powers": powers, "posterior.subsets": s}) for s in ("all", "observed")
    )
    mixture = mixed.posterior(mixed.encode_modalities(rows)).shared
    for c in range(7):
        members = [m for i, m in enumerate(SIZES) if (c + 1) >> i & 1]
        alone = plain.posterior(plain.encode_modalities(rows.only(members))).shared.components[0]
        torch.testing.assert_close(mixture.components.loc[c], alone.loc)
        torch.testing.assert_close(mixture.components.log_scale[c], alone.log_scale)


@torch.no_grad()
@POWERS
def test_draws_of_a_random_component_are_those_of_the_component(
    world: LinearGaussian, batch: mvcore.Batch, powers: str
) -> None:
    model = make(world.schema, **{"posterior.powers": powers, "posterior.subsets": "all"})
    q = model.posterior(model.encode_modalities(batch)).shared
    with fixed_noise():
        drawn = q.draw(1, "random")
        noise = type(q.components).unit(1, D, like=q.components.loc.detach()).rsample(1)[0]
    component = drawn.component[0]
    rows = torch.arange(14)
    expected = q.components.loc[component, rows] + q.components.scale[component, rows] * noise
    torch.testing.assert_close(drawn["shared"][0], expected)


def test_powers_of_a_product_sum_to_one_over_its_members(world: LinearGaussian) -> None:
    posterior = make(world.schema).joint_posterior
    for names in (["a"], ["a", "c"], ["a", "b", "c"]):
        assert posterior.powers(names).sum(0).tolist() == pytest.approx([1.0] * D)
    first, second = posterior.powers(["a", "b", "c"])[:2]
    torch.testing.assert_close(posterior.powers(["a", "b"])[0], first / (first + second))


@pytest.mark.parametrize("subsets", ["observed", "all"])
def test_logits_far_apart_leave_values_and_gradients_finite(
    world: LinearGaussian, batch: mvcore.Batch, subsets: str
) -> None:
    """e^±300 is no number in float32; the subset without the favoured member must not notice."""
    model = make(world.schema, **{"posterior.subsets": subsets}).float()
    for m, value in {"a": 300.0, "b": 0.0, "c": -300.0}.items():
        model.joint_posterior.logits[m].values.data.fill_(value)
    single = mvcore.Batch({m: x.float() for m, x in batch.x.items()}, batch.observed)
    model(single).loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    q = model.posterior(model.encode_modalities(single.only(["b", "c"]))).shared
    rows = single.observed[:, 1] & single.observed[:, 2]
    expert = model.encoders["b"](single.x["b"]).loc[single.observed[single.observed[:, 1]][:, 2]]
    torch.testing.assert_close(q.components.loc[-2 if subsets == "all" else 0, rows], expert)


def test_a_power_is_learned_from_rows_with_another_modality_alone(world: LinearGaussian) -> None:
    rows = world.sample(4, observed=torch.tensor([[True, True, False], [False, False, True]]).repeat(2, 1))
    model = make(world.schema)
    model(rows).loss.backward()
    grads = {m: model.joint_posterior.logits[m].values.grad for m in SIZES}
    assert grads["a"].all()
    torch.testing.assert_close(grads["a"], -grads["b"])  # the powers sum to 1
    torch.testing.assert_close(grads["c"], torch.zeros(D).double(), atol=1e-12, rtol=0)


def test_a_model_of_one_modality_trains_all_of_its_parameters() -> None:
    schema = Schema.from_shapes({"a": (5,)})
    for powers in ("softmax", "free"):
        model = make(schema, **{"posterior.powers": powers})
        model(mvcore.Batch.from_dense({"a": torch.randn(3, 5).double()})).loss.backward()
        assert all(p.grad is not None for p in model.parameters())


def test_settings_that_do_not_fit_are_refused(world: LinearGaussian) -> None:
    with pytest.raises(ConfigError, match=r"subsets='each' leaves nothing to weigh.*powers='free'"):
        make(world.schema, **{"posterior.subsets": "each"})
    with pytest.raises(ConfigError, match=r"posterior and prior must be of one family; got posterior.family='normal'"):
        make(world.schema, **{"prior.family": "laplace"})
    with pytest.raises(ConfigError, match="powers"):
        make(world.schema, **{"posterior.powers": "clamped"})
