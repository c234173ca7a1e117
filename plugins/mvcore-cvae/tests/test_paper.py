"""The laws of the CVAE (Sohn et al., 2015): on a linear decoder, whose posterior given any conditions is known."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence

import mvcore
from mvcore.cli import main
from mvcore.data import Batch, MultimodalDataset, Schema
from mvcore.distributions import DiagonalNormal, Latents
from mvcore.errors import ConfigError, DataError, NotApplicableError
from mvcore.likelihoods import LikelihoodDecoder, NormalLikelihood
from mvcore.models import Model
from mvcore.testing import (
    LinearGaussian,
    all_patterns,
    check_conditions_on_every_subset,
    check_leaves_state_alone,
    check_neighbours,
    check_no_rows,
    check_submodels,
    fixed_noise,
    sigma_points,
    small,
)

SIZES = {"a": 5, "b": 6, "c": 4}
D, F = 2, 3
PATTERNS = all_patterns(3).repeat(2, 1)
PRIORS = pytest.mark.parametrize("prior", ["learned", "standard"])


@pytest.fixture
def world() -> LinearGaussian:
    return LinearGaussian(SIZES, D)


class _Linear(nn.Module):
    """y = W z + V h + b, of a latent and the features of the conditions side by side."""

    def __init__(self, world: LinearGaussian) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        V = torch.randn(5, F, dtype=torch.float64, generator=generator)
        self.weight = nn.Parameter(torch.cat([world.W["a"], V], 1))
        self.bias = nn.Parameter(world.b["a"].clone())

    def forward(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return (z @ self.weight.T + self.bias)[:, None]


def raw(schema: Schema, **fields: object) -> Model:
    """A CVAE of the main modality a with small random networks, in float64."""
    sizes = {"main": "a", "hidden": [8], "condition_dim": F, "condition_dropout": 0.0, "samples": 2 * D}
    model = small("cvae", schema, **{**sizes, **fields})
    with torch.no_grad():  # so that p(z | c) and what the decoder is told move with c
        heads = (model.condition_features, model.prior_encoder and model.prior_encoder.head)
        for part in (head for head in heads if head is not None):
            for weight in part.parameters():
                weight.mul_(2)
    return model


def make(world: LinearGaussian, schema: Schema | None = None, **fields: object) -> Model:
    """The same with a linear decoder, whose columns of z are orthogonal."""
    model = raw(schema or world.schema, **fields)
    model.decoders["a"] = LikelihoodDecoder(_Linear(world), NormalLikelihood((5,), scale=world.sigma["a"]))
    return model


class Exact:
    """What a linear decoder and the model's own p(z | c) give in closed form, of rows that have the main modality."""

    def __init__(self, world: LinearGaussian, model: Model, batch: Batch) -> None:
        self.rows, sigma = batch.rows("a"), world.sigma["a"]
        encodings = model.encode_modalities(batch)
        whole = model.prior(encodings)
        self.prior, h = whole.density.take(self.rows), whole.conditions[self.rows]
        self.posterior = model.posterior(encodings).density.take(self.rows)
        weight = model.decoders["a"].network.weight
        W, shift = weight[:, :D], h @ weight[:, D:].T + world.b["a"]
        scale = self.prior.scale
        precision = scale**-2 + W.square().sum(0) / sigma**2
        mean = (self.prior.loc * scale**-2 + (batch.x["a"] - shift) @ W / sigma**2) / precision
        self.truth = DiagonalNormal(mean, -0.5 * precision.log())
        covariance = (W * scale[:, None] ** 2) @ W.T + sigma**2 * torch.eye(5, dtype=torch.float64)
        self.density = MultivariateNormal(self.prior.loc @ W.T + shift, covariance)
        self.log_p = self.density.log_prob(batch.x["a"])


def drawn(world: LinearGaussian, model: Model, batch: Batch) -> Batch:
    """The rows with main modalities of the model's own, and a posterior that is wider than the exact one.

    Importance weights then are no rare events.
    """
    torch.manual_seed(1)
    with torch.no_grad():
        model.posterior_encoder.head.linear.weight.mul_(0.3)
        model.posterior_encoder.head.linear.bias.copy_(torch.tensor([0.0, 0.0, 0.3, 0.3]))
    return batch.with_values({**batch.x, "a": Exact(world, model, batch).density.sample()}, batch.observed, {})


def kl(q: DiagonalNormal, p: DiagonalNormal) -> Tensor:
    return kl_divergence(Normal(q.loc, q.scale), Normal(p.loc, p.scale)).sum(-1)


# The objective


@PRIORS
@pytest.mark.parametrize("beta", [1.0, 2.5])
def test_loss_is_the_conditional_likelihood_and_the_divergence_from_the_exact_posterior(
    world: LinearGaussian, prior: str, beta: float
) -> None:
    batch, model = world.sample(14, observed=PATTERNS), make(world, prior=prior, beta=beta)
    exact = Exact(world, model, batch)
    law = -exact.log_p + kl(exact.posterior, exact.truth) + (beta - 1) * kl(exact.posterior, exact.prior)
    with sigma_points():
        torch.testing.assert_close(model(batch).loss, law.sum() / 14)


def test_terms_sum_to_the_loss_the_weight_is_the_reconstructions_and_beta_warms_up(world: LinearGaussian) -> None:
    batch = world.sample(14, observed=PATTERNS)
    plain, weighted = make(world, warmup=4.0), make(world, warmup=4.0, **{"modalities.a.weight": 3.0})
    with fixed_noise():
        one, other = plain(batch), weighted(batch)
        half, none = plain(batch, epoch=2.0).terms["kl"], plain(batch, epoch=0.0).terms["kl"]
    torch.testing.assert_close(sum(one.terms.values()), one.loss.detach())
    torch.testing.assert_close(other.terms["reconstruction/a"], 3 * one.terms["reconstruction/a"])
    torch.testing.assert_close(other.terms["kl"], one.terms["kl"])
    torch.testing.assert_close(half, one.terms["kl"] / 2)
    assert float(none) == 0


def test_a_fixed_prior_is_the_standard_normal_whatever_is_given(world: LinearGaussian) -> None:
    batch, model = world.sample(14, observed=PATTERNS), make(world, prior="standard")
    density = model.prior(model.encode_modalities(batch)).density
    assert torch.equal(density.loc, torch.zeros(14, D, dtype=torch.float64))
    assert torch.equal(density.scale, torch.ones(14, D, dtype=torch.float64))
    assert not [name for name, _ in model.named_parameters() if name.startswith("prior_encoder")]


# Partial rows


@PRIORS
def test_rows_without_the_main_modality_add_nothing_and_count_as_rows(world: LinearGaussian, prior: str) -> None:
    batch, model = world.sample(14, observed=PATTERNS), make(world, prior=prior)
    have = batch.column("a")
    lacking = batch.select(~have)
    with fixed_noise():
        whole, alone = model(batch).loss, model(batch.select(have)).loss
    torch.testing.assert_close(whole, alone * have.sum() / 14)
    model.zero_grad(set_to_none=True)
    loss = model(lacking).loss
    loss.backward()
    assert float(loss.detach()) == 0
    assert not any(p.grad.any() for p in model.parameters())
    encodings = model.encode_modalities(lacking)
    q, p = model.posterior(encodings).density, model.prior(encodings).density
    assert torch.equal(q.loc, p.loc)
    assert torch.equal(q.scale, p.scale)


def test_a_decoder_that_is_told_no_condition_sees_them_through_z_alone(world: LinearGaussian) -> None:
    batch, model = world.sample(14, observed=PATTERNS), raw(world.schema, condition_dim=0)
    assert model.condition_features is None
    assert model.latent_shapes == {"shared": (D,), "conditions": (0,)}
    same = model.encode(batch)["shared"]
    drawn = model.observe({"shared": same, "conditions": same.new_zeros(1, 14, 0)}, "a").mean
    torch.testing.assert_close(drawn, model.decoders["a"](same).mean)
    check_no_rows(model, batch)


@PRIORS
def test_a_row_has_the_loss_of_a_model_built_on_its_modalities_alone(world: LinearGaussian, prior: str) -> None:
    """In values and gradients, whatever conditions it lacks; a model without the main modality can't be built."""
    observed = PATTERNS[PATTERNS[:, 0]]
    batch, model = world.sample(8, observed=observed), raw(world.schema, prior=prior)
    check_submodels(lambda schema: raw(schema, prior=prior), model, batch)


@PRIORS
def test_checks_of_every_model_hold_for_both_priors(world: LinearGaussian, prior: str) -> None:
    batch, model = world.sample(14, observed=PATTERNS), raw(world.schema, prior=prior)
    check_neighbours(model, batch)
    check_conditions_on_every_subset(model, batch)
    check_leaves_state_alone(model, batch)
    check_no_rows(model, batch)


def test_each_network_runs_once_and_only_on_the_rows_that_need_it(world: LinearGaussian) -> None:
    batch, model, rows = world.sample(14, observed=PATTERNS), raw(world.schema), {}
    for name, encoder in model.encoders.items():
        encoder.register_forward_pre_hook(lambda _, args, name=name: rows.setdefault(name, []).append(len(args[0])))
    model(batch)
    assert rows == {"a": [8], "b": [4], "c": [4]}  # of eight rows with the main modality half have each condition


# Likelihoods


@PRIORS
def test_log_likelihood_is_that_of_the_main_modality_given_what_else_the_row_has(
    world: LinearGaussian, prior: str
) -> None:
    model = make(world, prior=prior)
    batch = drawn(world, model, world.sample(14, observed=PATTERNS))
    exact, estimate = Exact(world, model, batch), model.log_likelihood(batch, K=20_000)
    assert not estimate[~batch.column("a")].any()
    torch.testing.assert_close(estimate[exact.rows], exact.log_p.detach(), atol=0.05, rtol=0)


def test_mean_of_the_estimated_over_the_exact_likelihood_is_one(world: LinearGaussian) -> None:
    repeats = 4_000
    model = make(world, prior="standard")
    batch = drawn(world, model, world.sample(4, observed=all_patterns(3)[all_patterns(3)[:, 0]]))
    exact = Exact(world, model, batch).log_p.detach()
    many = batch.select(torch.arange(4).repeat(repeats))
    ratio = (model.log_likelihood(many, K=5) - exact.repeat(repeats)).exp().view(repeats, 4)
    error = ratio.std(0) / math.sqrt(repeats)
    assert (error > 1e-4).all()
    assert ((ratio.mean(0) - 1).abs() < 5 * error).all()


@pytest.mark.parametrize("estimator", ["predictive", "ratio", "reweighted"])
@pytest.mark.parametrize("given", [["b", "c"], ["b"], []])
def test_every_estimator_of_the_conditional_likelihood_is_of_one_number(
    world: LinearGaussian, estimator: str, given: list[str]
) -> None:
    """Log p(y | c_S): by draws of p(z | c_S), or by importance sampling from q(z | y, c_S)."""
    model = make(world)
    batch = drawn(world, model, world.sample(14, observed=PATTERNS))
    exact = Exact(world, model, batch.only(["a", *given]))
    found = model.conditional_log_likelihood(batch, ["a"], given, estimator, K=20_000)
    assert found[~batch.column("a")].isnan().all()
    torch.testing.assert_close(found[exact.rows], exact.log_p.detach(), atol=0.1, rtol=0)


def test_elbo_is_at_most_the_likelihood_and_importance_samples_tighten_it(world: LinearGaussian) -> None:
    model = make(world)
    batch = drawn(world, model, world.sample(8, observed=PATTERNS[PATTERNS[:, 0]]))
    exact, repeats = Exact(world, model, batch).log_p.mean(), 500
    with sigma_points(), torch.no_grad():
        elbo = -model(batch).loss
    many = batch.select(torch.arange(8).repeat(repeats))
    few = model.log_likelihood(many, K=3).mean()
    more = model.log_likelihood(many, K=30).mean()
    assert elbo < few < more < exact + 0.01


@pytest.mark.parametrize("target", [["b"], ["a", "c"]])
def test_conditions_have_no_density(world: LinearGaussian, target: list[str]) -> None:
    batch, model = world.sample(4), raw(world.schema)
    with pytest.raises(
        NotApplicableError, match=r"This CVAE has no density of '[bc]'.*generates, imputes and scores a"
    ):
        model.conditional_log_likelihood(batch, target)
    with pytest.raises(NotApplicableError, match="has no density of 'b'"):
        model.observe(model.encode(batch).values, "b")


# What it generates


def test_only_the_main_modality_is_imputed_from_any_subset_of_conditions(world: LinearGaussian) -> None:
    """With W m(c) + V h(c) + b in the mean; six standard errors over 4,000 draws."""
    batch, model, K = world.sample(14, observed=PATTERNS), make(world), 4_000
    filled = model.impute(batch, K=K)
    assert set(filled) == {"a"}
    assert torch.equal(filled["a"][batch.rows("a")], batch.x["a"])
    hidden = batch.without(["a"])
    whole = model.prior(model.encode_modalities(hidden))
    weight = model.decoders["a"].network.weight
    mean = torch.cat([whole.density.loc, whole.conditions], 1) @ weight.T + world.b["a"]
    spread = (whole.density.scale[:, None] * weight[:, :D]).square().sum(-1).sqrt()
    assert ((model.impute(hidden, K=K)["a"] - mean).abs() < 6 * spread / math.sqrt(K)).all()


def test_tables_are_filled_for_the_main_modality_with_intervals(world: LinearGaussian) -> None:
    batch = world.sample(14, observed=PATTERNS)
    data = MultimodalDataset.from_batch(world.schema, Batch({m: x.float() for m, x in batch.x.items()}, batch.observed))
    out = mvcore.impute(raw(world.schema).float(), data, interval=0.8, K=40)
    assert set(out) == {"a"}
    lacking = ~batch.column("a")
    assert (out["a"].low <= out["a"].high).all()
    assert (out["a"].low < out["a"].high)[lacking].all()


def test_a_saved_model_samples_its_main_modality_on_the_command_line(world: LinearGaussian, tmp_path: Path) -> None:
    mvcore.save(raw(world.schema).float(), tmp_path / "model")
    done = CliRunner().invoke(main, ["sample", str(tmp_path / "model"), "--n", "3", "--out", str(tmp_path / "drawn")])
    assert done.exit_code == 0, done.output
    assert [file.name for file in (tmp_path / "drawn").iterdir()] == ["a.npy"]


def test_generation_without_rows_is_that_of_rows_without_conditions(world: LinearGaussian) -> None:
    """Their p(z) is that of the learned prior given nothing, their features of the conditions are 0."""
    batch, model, n = world.sample(3), make(world), 20_000
    nothing = model.prior(model.encode_modalities(batch.only(["a"]))).density
    drawn = model.generate(n)
    assert set(drawn) == {"a"}
    W = model.decoders["a"].network.weight[:, :D]
    mean, covariance = nothing.loc[0] @ W.T + world.b["a"], ((W * nothing.scale[0] ** 2) @ W.T).detach()
    deviation = covariance.diagonal().sqrt()
    assert ((drawn["a"].mean(0) - mean).abs() < 6 * deviation / math.sqrt(n)).all()
    torch.testing.assert_close(drawn["a"].T.cov(), covariance, atol=float(6 * covariance.max() / 100), rtol=0)
    given = model.generate(5, given=batch.without(["a"]))
    assert given["a"].shape == (5, 3, 5)


def test_what_is_generated_moves_with_each_condition(world: LinearGaussian) -> None:
    batch, model = world.sample(4).without(["a"]), raw(world.schema)
    plain = model.impute(batch, K=2)["a"]
    for m in ("b", "c"):
        x = {n: v + 1 if n == m else v for n, v in batch.x.items()}
        assert (model.impute(Batch(x, batch.observed), K=2)["a"] - plain).abs().min() > 1e-6


def test_the_density_of_draws_follows_their_rows(world: LinearGaussian) -> None:
    batch, model = world.sample(7, observed=all_patterns(3)), raw(world.schema)
    encodings = model.encode_modalities(batch)
    latents, order = model.encode(batch, 2), torch.tensor([6, 0, 3, 3])
    moved = Latents(latents.take(order), 7, rows=order)
    for density in (model.posterior(encodings), model.prior(encodings)):
        torch.testing.assert_close(density.log_prob(moved), density.log_prob(latents)[:, order])
    assert model.latent_shapes == {"shared": (D,), "conditions": (F,)}


# Dropout of conditions


def test_conditions_are_hidden_in_training_alone_and_the_main_modality_never(world: LinearGaussian) -> None:
    rate, n = 0.4, 3_000
    batch, model, seen = world.sample(n), raw(world.schema, condition_dropout=rate, samples=1), {}
    for name, encoder in model.encoders.items():
        encoder.register_forward_pre_hook(lambda _, args, name=name: seen.update({name: len(args[0])}))
    torch.manual_seed(0)
    model(batch)
    error = 5 * math.sqrt(rate * (1 - rate) / n)
    assert seen["a"] == n
    for m in ("b", "c"):
        # each is hidden with the probability .4, unless all three modalities are, .4³ of the time, and drawn again
        share = 1 - (rate - rate**3) / (1 - rate**3)
        assert seen[m] / n == pytest.approx(share, abs=error)
    model.eval()
    model(batch)
    assert seen == {"a": n, "b": n, "c": n}


# Training


def data(world: LinearGaussian, observed: Tensor) -> MultimodalDataset:
    batch = world.sample(len(observed), observed=observed)
    return MultimodalDataset.from_batch(world.schema, Batch({m: x.float() for m, x in batch.x.items()}, batch.observed))


def test_training_needs_rows_with_the_main_modality(world: LinearGaussian) -> None:
    observed = torch.tensor([[False, True, True], [False, True, False]]).repeat(3, 1)
    with pytest.raises(DataError, match="None of 6 rows has 'a', the main modality"):
        mvcore.fit(raw(world.schema).float(), data(world, observed), epochs=1, progress=False, hooks=False)


def test_a_model_trained_on_complete_rows_predicts_from_every_subset_nearly_as_the_exact_posterior(
    world: LinearGaussian,
) -> None:
    """Subsets are learned by hiding conditions; the least error is that of the linear world's own conditional mean."""
    train, test = data(world, torch.ones(2000, 3, dtype=torch.bool)), world.sample(1000, seed=9)
    torch.manual_seed(0)
    narrow = {f"modalities.{m}.{part}.hidden": [32] for m in SIZES for part in ("encoder", "decoder")}
    model = mvcore.create("cvae", train, main="a", latent_dim=4, hidden=[64], **narrow)
    mvcore.fit(model, train, epochs=10, batch_size=100, lr=5e-3, progress=False, hooks=False)
    floats = Batch({m: x.float() for m, x in test.x.items()}, test.observed)
    for given in (["b", "c"], ["b"], ["c"], []):
        predicted = model.impute(floats.only(given), K=64)["a"]
        best = world.posterior(test, given).loc @ world.W["a"].T + world.b["a"]
        errors = [float((test.x["a"] - x).square().mean()) for x in (predicted, best)]
        assert errors[0] < 1.06 * errors[1], (given, errors)


# What is refused


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"encoding_dim": 0}, "encoding_dim must be greater than 0"),
        ({"main": "d"}, r"main: unknown modality 'd' \(the data has a, b, c\)"),
        ({"beta": -1.0}, "beta must be 0 or greater"),
        ({"hidden": []}, "hidden"),
        ({"condition_dim": -1}, "condition_dim must be 0 or greater"),
        ({"condition_dropout": 1.0}, r"condition_dropout must be in \[0, 1\)"),
        ({"prior": "wide"}, "prior"),
        ({"samples": 0}, "samples"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(
    world: LinearGaussian, fields: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        raw(world.schema, **fields)


def test_the_first_modality_is_the_main_one_unless_another_is_named(world: LinearGaussian) -> None:
    assert mvcore.create("cvae", world.schema).config.main == "a"
    assert mvcore.create("cvae", world.schema, main="c").generated == ("c",)


def test_a_model_of_the_main_modality_alone_is_a_vae(world: LinearGaussian) -> None:
    schema = Schema(world.schema.modalities[:1])
    batch, model = world.sample(4).only(["a"]), raw(schema, prior="standard")
    assert model(batch).loss.isfinite()
    assert model.generate(2)["a"].shape == (2, 5)
