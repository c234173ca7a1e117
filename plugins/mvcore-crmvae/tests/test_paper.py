"""The laws of CRMVAE (Suzuki & Matsuo): on linear maps, whose posteriors are known, with arbitrary encoders."""

from __future__ import annotations

from collections import Counter

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
PATTERNS = all_patterns(3).repeat(2, 1)


@pytest.fixture
def world() -> LinearGaussian:
    return LinearGaussian(SIZES, D)


def make(schema: Schema, **fields: object) -> Model:
    """A CRMVAE with random small encoders and 2D draws of each posterior, in float64."""
    return small("crmvae", schema, **{"loss.samples": 2 * D, "latent_dim": D, **fields})


def with_exact_decoders(world: LinearGaussian, **fields: object) -> Model:
    model = make(world.schema, **fields)
    model.decoders.update(world.decoders())
    return model


def experts(model: Model, one: mvcore.Batch) -> dict[str, Normal]:
    """The encoders' normals of what a row has, in torch's own class."""
    have = [m for m in one.names if one.column(m)[0]]
    encoded = {m: model.encoders[m](one.x[m]) for m in have}
    return {m: Normal(e.loc[0], e.log_scale[0].exp()) for m, e in encoded.items()}


def product(q_m: dict[str, Normal]) -> Normal:
    precision = sum(q.scale**-2 for q in q_m.values())
    return Normal(sum(q.loc * q.scale**-2 for q in q_m.values()) / precision, precision**-0.5)


def expected(world: LinearGaussian, x: Tensor, m: str, q: Normal) -> Tensor:
    """E_q log p(x_m | z) in closed form: log N(x; Wμ + b, σ²) − ½ Σ_d λ_d v_d."""
    at_mean = Normal(world.W[m] @ q.loc + world.b[m], world.sigma[m]).log_prob(x).sum()
    return at_mean - 0.5 * (world.precision(m) * q.variance).sum()


def by_the_formula(
    world: LinearGaussian, model: Model, one: mvcore.Batch, beta: float, weight: dict[str, float], share: float
) -> Tensor:
    """The paper's formula for one row, from torch.distributions; reconstructions times ``share``."""
    q_m = experts(model, one)
    q, total = product(q_m), torch.zeros((), dtype=torch.float64)
    for m, expert in q_m.items():
        x = one.x[m][0]
        total -= share * weight[m] * (expected(world, x, m, q) + expected(world, x, m, expert))
        total += beta * kl_divergence(q, expert).sum()
    total += beta * kl_divergence(q, Normal(torch.zeros(D).double(), 1)).sum()
    return total / (len(q_m) + 1)


@pytest.mark.parametrize(("halved", "share"), [(False, 1.0), (True, 0.5)])
@pytest.mark.parametrize("beta", [1.0, 2.5])
def test_loss_is_the_papers_formula_for_any_encoders(
    world: LinearGaussian, beta: float, halved: bool, share: float
) -> None:
    batch, weight = world.sample(14, observed=PATTERNS), {"a": 1.0, "b": 0.3, "c": 2.0}
    weights = {f"modalities.{m}.weight": w for m, w in weight.items()}
    model = with_exact_decoders(world, **{"loss.beta": beta, "loss.halved": halved, **weights})
    rows = [batch.select(torch.tensor([row])) for row in range(14)]
    law = torch.stack([by_the_formula(world, model, one, beta, weight, share) for one in rows])
    with sigma_points():
        torch.testing.assert_close(model(batch).loss, law.mean())


def test_loss_is_made_of_likelihoods_and_of_divergences_from_the_exact_posteriors(world: LinearGaussian) -> None:
    """At β = 1, times |O| + 1: −log p(x_O) + KL(q‖p(z|x_O)), and for each m −log p(x_m) + KL(q_m‖p(z|x_m)) with
    KL(q‖q_m) in the place of KL(q_m‖p)."""
    batch, model = world.sample(14, observed=PATTERNS), with_exact_decoders(world)
    encodings = model.encode_modalities(batch)
    q = model.posterior(encodings).shared.components[0]
    law = -world.log_likelihood(batch) + q.kl(world.posterior(batch))
    for m in SIZES:
        rows, expert = batch.rows(m), model.posterior(encodings.only([m])).shared.components[0]
        own = -world.log_likelihood(batch, [m]) + expert.kl(world.posterior(batch, [m]))
        swap = q.take(rows).kl(expert.take(rows)) - expert.take(rows).kl(type(q).unit(len(rows), D, like=q.loc))
        law = law + own.where(batch.column(m), 0).index_add(0, rows, swap)
    with sigma_points():
        torch.testing.assert_close(model(batch).loss, (law / (batch.observed.sum(1) + 1)).mean())


@pytest.mark.parametrize(("halved", "share", "weight"), [(True, 0.5, 1.0), (False, 1.0, 0.5)])
def test_a_row_of_one_modality_has_an_elbo_whose_weights_the_option_changes(
    world: LinearGaussian, halved: bool, share: float, weight: float
) -> None:
    """q = q_m, so KL(q‖q_m) = 0: halved ½ (E −rec + β KL), else E −rec + ½ β KL."""
    batch = world.sample(3, observed=torch.eye(3, dtype=torch.bool))
    model = with_exact_decoders(world, **{"loss.beta": 3.0, "loss.halved": halved})
    q = model.posterior(model.encode_modalities(batch)).shared.components[0]
    prior = q.kl(type(q).unit(3, D, like=q.loc))
    elbo = -world.log_likelihood(batch) + q.kl(world.posterior(batch)) + (3 * weight - 1) * prior
    with sigma_points():
        torch.testing.assert_close(model(batch).loss, share * elbo.mean() if halved else elbo.mean())


def test_halved_at_beta_is_half_of_the_formula_at_twice_beta(world: LinearGaussian) -> None:
    batch = world.sample(14, observed=PATTERNS)
    halved = with_exact_decoders(world, **{"loss.halved": True, "loss.beta": 2.5})
    formula = with_exact_decoders(world, **{"loss.beta": 5.0})
    with sigma_points():
        torch.testing.assert_close(halved(batch).loss, formula(batch).loss / 2)


@pytest.mark.parametrize(("epoch", "share"), [(0.0, 0.0), (2.5, 0.25), (99.0, 1.0)])
def test_all_divergences_warm_up(world: LinearGaussian, epoch: float, share: float) -> None:
    batch, model = world.sample(14, observed=PATTERNS), with_exact_decoders(world, **{"loss.warmup": 10.0})
    other = with_exact_decoders(world, **{"loss.beta": share})
    with sigma_points():
        torch.testing.assert_close(model(batch, epoch=epoch).loss, other(batch).loss)


def test_with_the_exact_product_one_draw_is_the_exact_likelihood(world: LinearGaussian) -> None:
    """Experts that are likelihoods, and the prior as one more: the loss bounds nothing, likelihoods are exact."""
    batch = world.sample(7, observed=all_patterns(3))
    model = with_exact_decoders(world, **{"posterior.prior_expert": "every"})
    model.encoders.update(world.encoders("likelihood"))
    torch.testing.assert_close(model.log_likelihood(batch, 1), world.log_likelihood(batch))


def test_each_network_runs_once_for_all_terms(world: LinearGaussian) -> None:
    model, batch = make(world.schema), world.sample(7, observed=all_patterns(3))
    calls: Counter[str] = Counter()
    for kind in ("encoders", "decoders"):
        for name, module in getattr(model, kind).items():
            module.register_forward_hook(lambda *_, key=f"{kind}/{name}": calls.update([key]))
    model(batch)
    assert calls == {f"{kind}/{m}": 1 for kind in ("encoders", "decoders") for m in SIZES}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"posterior.subsets": "all"}, r"one product for each row; set posterior.subsets='observed', got 'all'"),
        ({"private_dim": 2}, "takes no private latents; set private_dim=0, got 2"),
        ({"modality_dropout": 0.3}, "set modality_dropout=0"),
        ({"loss.beta": -1.0}, "beta"),
        ({"loss.samples": 0}, "samples"),
    ],
)
def test_what_the_loss_cannot_train_is_refused_with_the_reason(fields: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make(Schema.from_shapes({"a": (3,), "b": (2,)}), **fields)


def test_a_loss_put_together_by_hand_refuses_a_mixture(world: LinearGaussian) -> None:
    model = make(world.schema)
    model.joint_posterior.subsets = "each"
    with pytest.raises(ConfigError, match="'each'"):
        model(world.sample(3))
