"""The laws of DMVAE (Lee & Pavlovic, 2021): on linear maps, whose posteriors are known, with arbitrary encoders."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

import mvcore
from mvcore.data import Schema
from mvcore.distributions import DiagonalNormal
from mvcore.errors import ConfigError
from mvcore.inference import importance_weights
from mvcore.models import Model
from mvcore.testing import (
    LinearGaussian,
    all_patterns,
    sigma_points,
    small,
)

SIZES = {"a": 5, "b": 6, "c": 4}
D, PRIVATE = 2, {"a": 1, "b": 3, "c": 1}
K = 12  # a multiple of twice each of 2, 1 and 3 dimensions, as sigma points need
PATTERNS = all_patterns(3).repeat(2, 1)


@pytest.fixture
def world() -> LinearGaussian:
    return LinearGaussian(SIZES, D, PRIVATE)


def make(schema: Schema, **fields: object) -> Model:
    """A DMVAE with random small encoders, in float64."""
    private = {m: PRIVATE[m] for m in schema.names if m in PRIVATE}
    return small("dmvae", schema, **{"loss.samples": K, "latent_dim": D, "private_dim": private, **fields})


def with_exact_decoders(world: LinearGaussian, **fields: object) -> Model:
    model = make(world.schema, **fields)
    model.decoders.update(world.decoders())
    return model


def shared_posteriors(model: Model, batch: mvcore.Batch) -> dict[str, DiagonalNormal]:
    """``all``: the product of a row's experts and the prior, by hand; by name, the raw expert of each modality."""
    encoded = {m: model.encoders[m](batch.x[m]) for m in batch.names}
    precision, weighted = torch.ones(len(batch), D).double(), torch.zeros(len(batch), D).double()
    for m, e in encoded.items():
        precision = precision.index_add(0, batch.rows(m), torch.exp(-2 * e.log_scale))
        weighted = weighted.index_add(0, batch.rows(m), e.loc * torch.exp(-2 * e.log_scale))
    found = {"all": DiagonalNormal(weighted / precision, -0.5 * precision.log())}
    return found | {m: DiagonalNormal(e.loc, e.log_scale) for m, e in encoded.items()}


def normal(q: DiagonalNormal) -> Normal:
    return Normal(q.loc, q.scale)


def kl(q: DiagonalNormal, p: DiagonalNormal) -> Tensor:
    return kl_divergence(normal(q), normal(p)).sum(-1)


def prior_of(q: DiagonalNormal) -> DiagonalNormal:
    return DiagonalNormal.unit(*q.loc.shape, like=q.loc)


def law_of_rows(
    world: LinearGaussian,
    model: Model,
    batch: mvcore.Batch,
    *,
    beta: float,
    beta_private: dict[str, float],
    paper: bool,
) -> Tensor:
    """The loss of each row from likelihoods and divergences from exact posteriors, with any encoders.

    At weights of 1 every term is −log p(x_O) + KL(q‖p(z|x_O)) + Σ_m KL(q(w_m|x_m)‖p(w_m|x_m)), for z and the w_m are
    independent a posteriori; other weights add divergences from the prior.
    """
    count = batch.observed.sum(1).double()
    private = torch.zeros(len(batch)).double()
    for m in batch.names:
        e = model.encoders[m](batch.x[m])
        q = DiagonalNormal(e.private_loc, e.private_log_scale)
        value = kl(q, world.private_posterior(batch, m)) + (beta_private[m] - 1) * kl(q, prior_of(q))
        private = private.index_add(0, batch.rows(m), value)
    law = (count + 1) * (private - world.log_likelihood(batch))
    for m, q in shared_posteriors(model, batch).items():
        rows = torch.arange(len(batch)) if m == "all" else batch.rows(m)
        factor = beta * (count[rows] if paper else 1) - 1
        law = law.index_add(0, rows, kl(q, world.posterior(batch).take(rows)) + factor * kl(q, prior_of(q)))
    return law


@pytest.mark.parametrize("paper", [True, False])
@pytest.mark.parametrize("beta", [1.0, 2.5])
def test_loss_is_made_of_likelihoods_and_divergences_for_any_encoders(
    world: LinearGaussian, beta: float, paper: bool
) -> None:
    batch, betas = world.sample(14, observed=PATTERNS), {"a": 0.5, "b": 1.0, "c": 3.0}
    named = {"loss.shared_kl": "paper" if paper else "elbo", "loss.beta": beta, "loss.beta_private": {"a": 0.5, "c": 3}}
    model = with_exact_decoders(world, **named)
    law = law_of_rows(world, model, batch, beta=beta, beta_private=betas, paper=paper)
    with sigma_points():
        torch.testing.assert_close(model(batch).loss, law.mean())


def test_as_bounds_the_loss_is_never_below_as_many_negative_likelihoods_as_a_row_has_posteriors(
    world: LinearGaussian,
) -> None:
    batch = world.sample(21, observed=all_patterns(3).repeat(3, 1))
    model = with_exact_decoders(world, **{"loss.shared_kl": "elbo"})
    bound = -(batch.observed.sum(1) + 1) * world.log_likelihood(batch)
    with sigma_points():
        losses = torch.stack([model(batch.select(torch.tensor([row]))).loss for row in range(21)])
    assert (losses > bound).all()


def test_rows_of_one_modality_with_exact_posteriors_leave_the_likelihood_alone(world: LinearGaussian) -> None:
    """The joint term, whose experts are likelihoods: −log p(x_m). The raw expert, without the prior: 1 KL more."""
    batch = world.sample(6, observed=torch.eye(3, dtype=torch.bool).repeat(2, 1))
    model = with_exact_decoders(world, **{"loss.shared_kl": "elbo"})
    model.encoders.update(world.encoders("likelihood"))
    law = -2 * world.log_likelihood(batch)
    for m in SIZES:
        raw = shared_posteriors(model, batch)[m]
        law = law.index_add(0, batch.rows(m), kl(raw, world.posterior(batch).take(batch.rows(m))))
    with sigma_points():
        torch.testing.assert_close(model(batch).loss, law.mean())


def test_the_weights_of_the_modalities_weigh_reconstructions_alone(world: LinearGaussian) -> None:
    batch, model = world.sample(14, observed=PATTERNS), make(world.schema, **{"loss.shared_kl": "elbo"})
    weighted = make(world.schema, **{"loss.shared_kl": "elbo", "modalities.b.weight": 3.0})
    torch.manual_seed(0)
    plain = model(batch).terms
    torch.manual_seed(0)
    terms = weighted(batch).terms
    factors = {name: 3.0 if name == "reconstruction/b" else 1.0 for name in plain}
    for name, factor in factors.items():
        torch.testing.assert_close(terms[name], factor * plain[name])


def test_one_draw_of_each_private_latent_serves_all_terms(world: LinearGaussian) -> None:
    model, batch, seen = make(world.schema, **{"loss.samples": 1}), world.sample(7, observed=all_patterns(3)), {}
    for m, decoder in model.decoders.items():
        decoder.network.register_forward_pre_hook(lambda _, args, m=m: seen.update({m: args[0].detach()}))
    model(batch)
    for m, z in seen.items():
        rows = torch.cat([torch.arange(7), *[batch.rows(n) for n in SIZES]])  # q_O, then the raw experts
        rows = rows[batch.column(m)[rows]]
        assert len(z) == len(rows)
        for row in batch.rows(m).tolist():
            draws = z[rows == row]
            assert len(draws) == int(batch.observed[row].sum()) + 1
            assert len(draws[:, D:].unique(dim=0)) == 1
            assert len(draws[:, :D].unique(dim=0)) == len(draws)


def test_each_network_runs_once_for_all_terms(world: LinearGaussian) -> None:
    model, batch = make(world.schema), world.sample(7, observed=all_patterns(3))
    calls: Counter[str] = Counter()
    for kind in ("encoders", "decoders"):
        for name, module in getattr(model, kind).items():
            module.register_forward_hook(lambda *_, key=f"{kind}/{name}": calls.update([key]))
    model(batch)
    assert calls == {f"{kind}/{m}": 1 for kind in ("encoders", "decoders") for m in SIZES}


@pytest.mark.parametrize(("epoch", "share"), [(0.0, 0.0), (2.5, 0.25), (99.0, 1.0)])
def test_all_divergences_warm_up(world: LinearGaussian, epoch: float, share: float) -> None:
    batch, model = world.sample(14, observed=PATTERNS), make(world.schema, **{"loss.warmup": 10.0})
    other = make(world.schema, **{"loss.beta": share, "loss.beta_private": share})
    with sigma_points():
        torch.testing.assert_close(model(batch, epoch=epoch).loss, other(batch).loss)


def test_without_private_latents_every_posterior_reconstructs_from_the_shared_one_alone() -> None:
    world = LinearGaussian(SIZES, D)
    batch = world.sample(14, observed=PATTERNS)
    model = small("dmvae", world.schema, private_dim=0, **{"loss.samples": 2 * D, "loss.shared_kl": "elbo"})
    model.decoders.update(world.decoders())
    law = -(batch.observed.sum(1) + 1) * world.log_likelihood(batch)
    for m, q in shared_posteriors(model, batch).items():
        rows = torch.arange(14) if m == "all" else batch.rows(m)
        law = law.index_add(0, rows, kl(q, world.posterior(batch).take(rows)))
    with sigma_points():
        torch.testing.assert_close(model(batch).loss, law.mean())


def test_exact_encoders_give_the_exact_likelihood_of_every_pattern_with_one_draw(world: LinearGaussian) -> None:
    batch, model = world.sample(7, observed=all_patterns(3)), with_exact_decoders(world, **{"loss.beta": 3.0})
    model.encoders.update(world.encoders("likelihood"))
    torch.testing.assert_close(model.log_likelihood(batch, 1), world.log_likelihood(batch))
    _, weights = importance_weights(model, batch, model.encode_modalities(batch), 3)
    torch.testing.assert_close(weights, world.log_likelihood(batch).expand(3, -1))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"posterior.subsets": "all"}, r"one product for each row; set posterior.subsets='observed', got 'all'"),
        ({"modality_dropout": 0.3}, "set modality_dropout=0"),
        ({"loss.beta_private": {"d": 2.0}}, r"loss.beta_private: unknown modality 'd' \(the data has a, b, c\)"),
        ({"loss.beta_private": {"a": -2.0}}, "beta_private must be 0 or greater, got -2"),
        ({"loss.shared_kl": "both"}, "shared_kl"),
        ({"loss.beta": -1.0}, "beta"),
        ({"loss.samples": 0}, "samples"),
    ],
)
def test_what_the_loss_cannot_train_is_refused_with_the_reason(
    world: LinearGaussian, fields: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        make(world.schema, **fields)


def test_a_loss_put_together_by_hand_refuses_a_mixture_and_a_choice_it_does_not_know(world: LinearGaussian) -> None:
    from mvcore_dmvae.objective import DMVAELoss

    model = make(world.schema)
    model.joint_posterior.subsets = "each"
    with pytest.raises(ConfigError, match="'each'"):
        model(world.sample(3))
    with pytest.raises(ConfigError, match="shared_kl: expected 'paper' or 'elbo', got 'papers'"):
        DMVAELoss(shared_kl="papers")
