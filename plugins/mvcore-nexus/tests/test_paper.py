"""The laws of Nexus (Vasco et al., 2022), on linear maps whose likelihoods are known, and what it learns of digits."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

import mvcore
from mvcore.cli import main
from mvcore.data import Schema
from mvcore.distributions import DiagonalNormal, Encoded, Latents
from mvcore.errors import ConfigError
from mvcore.likelihoods import LikelihoodDecoder, NormalLikelihood
from mvcore.models import Model
from mvcore.testing import (
    LinearGaussian,
    all_patterns,
    check_conditions_on_every_subset,
    check_neighbours,
    check_no_rows,
    check_submodels,
    fixed_noise,
    sigma_points,
    small,
)
from mvcore_nexus.model import Nexus, forced_dropout

SIZES = {"a": 5, "b": 6, "c": 4}
D = 2


@pytest.fixture
def world() -> LinearGaussian:
    return LinearGaussian(SIZES, D)


def make(schema: Schema, **fields: object) -> Nexus:
    """A Nexus with small random networks and two-dimensional latents, in float64 and in training mode."""
    sizes = {"latent_dim": D, "bottom_dim": D, "message_dim": 5, "top_hidden": [6], "samples": 2 * D}
    model = small("nexus", schema, **{**sizes, **fields})
    assert isinstance(model, Nexus)
    return model


def top_parameters(model: Nexus) -> list[nn.Parameter]:
    return [p for part in (model.messages, model.top_encoder, model.top_decoders) for p in part.parameters()]


# The bottom level


@pytest.mark.parametrize("beta", [1.0, {"a": 2.5, "b": 0.5}])
def test_without_the_top_the_loss_is_a_sum_of_independent_vaes(world: LinearGaussian, beta: object) -> None:
    batch = world.sample(21, observed=all_patterns(3).repeat(3, 1))
    model = make(world.schema, gamma=0.0, beta_top=0.0, beta=beta)
    model.decoders.update(world.decoders())
    with sigma_points():
        loss = model(batch).loss
    law = torch.zeros(21, dtype=torch.float64)
    for m, q in model.encode_modalities(batch).experts.items():
        rows = batch.rows(m)
        weight = beta if isinstance(beta, float) else beta.get(m, 1.0)  # type: ignore[attr-defined]
        exact = world.posterior(batch, [m])[rows]
        law[rows] += q.kl(exact) - world.log_likelihood(batch, [m])[rows] + (weight - 1) * q.kl(DiagonalNormal.unit(D))
    torch.testing.assert_close(loss, law.mean())


def test_weights_of_the_modalities_multiply_their_reconstruction_alone(world: LinearGaussian) -> None:
    batch = world.sample(7, observed=all_patterns(3))
    plain, weighted = make(world.schema, dropout=0.0), make(world.schema, dropout=0.0, **{"modalities.b.weight": 3.0})
    with fixed_noise():
        one, other = plain(batch).terms, weighted(batch).terms
    for name, value in one.items():
        torch.testing.assert_close(other[name], 3 * value if name == "reconstruction/b" else value)


def test_the_top_sends_no_gradient_to_the_bottom(world: LinearGaussian) -> None:
    batch = world.sample(14, observed=all_patterns(3).repeat(2, 1))
    gradients = []
    for gamma, beta_top in [(0.0, 0.0), (50.0, 3.0)]:
        model = make(world.schema, gamma=gamma, beta_top=beta_top, dropout=0.0)
        with fixed_noise():
            model(batch).loss.backward()
        bottom = [p.grad for p in [*model.encoders.parameters(), *model.decoders.parameters()]]
        gradients.append(torch.cat([g.flatten() for g in bottom if g is not None]))
        assert all((p.grad.abs().max() > 0) == (gamma > 0) for p in top_parameters(model) if p.grad is not None)
    torch.testing.assert_close(*gradients)
    assert gradients[0].abs().min() >= 0
    assert gradients[0].abs().max() > 0


# The top level


def by_hand(model: Nexus, batch: mvcore.Batch, noise: Tensor) -> dict[str, Tensor]:
    """The terms of the top, row by row, its latents the means plus a fixed noise times the scales; one draw."""
    experts = model.encode_modalities(batch).experts
    terms = {name: torch.zeros((), dtype=torch.float64) for name in ("kl", "top/a", "top/b", "top/c")}
    for row in range(len(batch)):
        have = [m for m in SIZES if batch.column(m)[row]]
        at = {m: int((batch.rows(m) == row).nonzero()) for m in have}
        z = {m: (experts[m].loc[at[m]] + noise * experts[m].log_scale[at[m]].exp()).detach() for m in have}
        messages = [model.messages[m].weight @ z[m] + model.messages[m].bias for m in have]
        encoded = model.top_encoder(torch.stack(messages).sum(0, keepdim=True) / len(have))
        mu, log_sigma = encoded.loc[0], encoded.log_scale[0]
        kl = 0.5 * (log_sigma.mul(2).exp() + mu**2 - 1 - 2 * log_sigma).sum()
        terms["kl"] = terms["kl"] + model.beta_top * kl / len(batch)
        for m in have:
            error = (z[m] - model.top_decoders[m]((mu + noise * log_sigma.exp())[None])[0]).square().sum()
            scale = math.exp(model.top_log_scale[m])
            log_p = -error / (2 * scale**2) - D * (math.log(scale) + 0.5 * math.log(2 * math.pi))
            terms[f"top/{m}"] = terms[f"top/{m}"] - model.gamma[m] * log_p / len(batch)
    return terms


def test_the_top_loss_and_its_gradient_are_the_formula_by_hand(world: LinearGaussian) -> None:
    batch = world.sample(14, observed=all_patterns(3).repeat(2, 1))
    gamma, scale = {"a": 3.0, "b": 1.0, "c": 0.5}, {"a": 0.4, "b": math.sqrt(0.5), "c": 2.0}
    model = make(world.schema, gamma=gamma, top_scale=scale, beta_top=1.7, dropout=0.0, samples=3)
    assert {m: math.exp(v) for m, v in model.top_log_scale.items()} == pytest.approx(scale)
    assert (model.gamma, model.beta_top) == (gamma, 1.7)
    with fixed_noise():
        output = model(batch)
        noise = DiagonalNormal.unit(D, like=batch.x["a"]).noise(torch.Size((3, D)))
    draws = [by_hand(model, batch, one) for one in noise]
    law = {name: torch.stack([draw[name] for draw in draws]).mean() for name in draws[0]}
    for name, value in law.items():
        torch.testing.assert_close(output.terms[name], value.detach())
    expected = torch.autograd.grad(torch.stack(list(law.values())).sum(), top_parameters(model))
    torch.testing.assert_close(torch.autograd.grad(output.loss, top_parameters(model)), expected)


def test_at_the_default_scale_gamma_is_the_official_weight_of_the_squared_error(world: LinearGaussian) -> None:
    """The official code adds γ · Σ (z − ẑ)²; −γ log p at any other scale has another gradient."""
    batch = world.sample(5)
    model = make(world.schema, gamma=50.0, dropout=0.0, samples=1)
    with fixed_noise():
        total = model(batch).terms
        latents = model.encode(batch)
    error = sum((latents[f"bottom/{m}"] - model.top_decoders[m](latents["shared"][0])).square().sum(-1) for m in SIZES)
    constant = 3 * 50 * D * 0.5 * math.log(math.pi)  # ½ log(2π s²) for each dimension at s² = ½
    assert isinstance(error, Tensor)
    torch.testing.assert_close(sum(total[f"top/{m}"] for m in SIZES), 50 * error.mean().detach() + constant)


def test_the_terms_sum_to_the_loss_and_all_betas_warm_up(world: LinearGaussian) -> None:
    batch = world.sample(7, observed=all_patterns(3))
    model = make(world.schema, warmup=10.0, dropout=0.0)
    with fixed_noise():
        outputs = {epoch: model(batch, epoch=epoch) for epoch in (0.0, 2.5, 10.0, math.inf)}
    for epoch, output in outputs.items():
        torch.testing.assert_close(output.loss.detach(), sum(output.terms.values()))
        for name, value in output.terms.items():
            grown = min(1.0, epoch / 10) if name.startswith("kl") else 1.0
            torch.testing.assert_close(value, grown * outputs[math.inf].terms[name])


# Forced perceptual dropout


def test_dropout_leaves_a_uniform_number_of_messages_and_every_choice_is_as_likely() -> None:
    n = 40_000
    observed = torch.tensor([[True, True, True, True], [True, False, True, True]]).repeat_interleave(n, 0)
    torch.manual_seed(0)
    kept = forced_dropout(observed, 1.0)
    assert not (kept & ~observed).any()
    for rows, names in ((kept[:n], range(4)), (kept[n:], (0, 2, 3))):
        size = len(names)
        subsets = [s for k in range(1, size) for s in itertools.combinations(names, k)]
        counts = {s: int((rows == torch.tensor([i in s for i in range(4)])).all(1).sum()) for s in subsets}
        assert sum(counts.values()) == n  # never all, never none
        expected = {s: n / (size - 1) / math.comb(size, len(s)) for s in subsets}
        chi_square = sum((counts[s] - e) ** 2 / e for s, e in expected.items())
        freedom = len(subsets) - 1
        assert chi_square < freedom + 5 * math.sqrt(2 * freedom)


def test_dropout_strikes_a_share_rho_of_the_rows_that_have_several() -> None:
    n, rate = 40_000, 0.3
    torch.manual_seed(0)
    observed = torch.tensor([[True, True, False], [False, True, False], [True, True, True]]).repeat(n, 1)
    lost = (forced_dropout(observed, rate) != observed).any(1).view(n, 3).double().mean(0)
    error = 5 * math.sqrt(rate * (1 - rate) / n)
    assert float(lost[0]) == pytest.approx(rate, abs=error)
    assert float(lost[1]) == 0
    assert float(lost[2]) == pytest.approx(rate, abs=error)


@contextmanager
def seen_by_the_top(model: Nexus) -> Iterator[list[Tensor]]:
    """The mean messages that the top encoder was given."""
    seen: list[Tensor] = []
    hook = model.top_encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    yield seen
    hook.remove()


def shown(model: Nexus, batch: mvcore.Batch) -> list[list[str]]:
    """For each row the modalities whose messages reached the top: message m is a constant 4^m."""
    for i, m in enumerate(SIZES):
        nn.init.zeros_(model.messages[m].weight)
        nn.init.constant_(model.messages[m].bias, 4.0**i)
    sets = [s for k in range(1, 4) for s in itertools.combinations(range(3), k)]
    means = torch.tensor([sum(4.0**i for i in s) / len(s) for s in sets], dtype=torch.float64)
    with seen_by_the_top(model) as seen:
        model(batch)
    nearest = (seen[0][:, :1] - means).abs().argmin(1).tolist()
    return [[list(SIZES)[i] for i in sets[k]] for k in nearest]


def test_rho_1_never_keeps_all_messages_and_never_takes_the_last(world: LinearGaussian) -> None:
    batch = world.sample(700, observed=all_patterns(3).repeat(100, 1))
    model = make(world.schema, dropout=1.0, samples=1)
    for row, got in enumerate(shown(model, batch)):
        have = [m for m in SIZES if batch.column(m)[row]]
        assert set(got) <= set(have)
        assert len(got) == 1 if len(have) < 3 else len(got) in (1, 2)


def test_a_dropped_message_is_still_a_target(world: LinearGaussian) -> None:
    batch = world.sample(4, observed=torch.tensor([[True, True, False]]).repeat(4, 1))
    model = make(world.schema, dropout=1.0, samples=1)
    with fixed_noise():
        terms = model(batch).terms
    constant = D * 0.5 * math.log(math.pi)
    assert float(terms["top/a"]) > constant  # −log p without its squared error; 0 were it no target
    assert float(terms["top/b"]) > constant
    assert float(terms["top/c"]) == 0


def test_evaluation_ignores_rho(world: LinearGaussian) -> None:
    batch = world.sample(7, observed=all_patterns(3))
    none, all_rows = make(world.schema, dropout=0.0).eval(), make(world.schema, dropout=1.0)
    with fixed_noise():
        assert not torch.equal(none(batch).loss, all_rows(batch).loss)
        all_rows.eval()
        assert torch.equal(none(batch).loss, all_rows(batch).loss)
        all_rows.train()
        assert torch.equal(none.embed(batch), all_rows.embed(batch))


# The generative model


class Affine(nn.Module):
    """``x ↦ W (x − shift) + bias``, as one encoder's location with a constant scale where one is given."""

    def __init__(self, weight: Tensor, bias: Tensor, scale: Tensor | None = None) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)
        self.log_scale = None if scale is None else scale.log()

    def forward(self, x: Tensor, mask: Tensor | None = None, context: Tensor | None = None) -> Tensor | Encoded:
        y = x @ self.weight.T + self.bias
        return y if self.log_scale is None else Encoded(y, self.log_scale.expand_as(y))


class Hierarchy:
    r"""``z_σ ~ N(0, I)``, ``z_m ~ N(A_m z_σ + a_m, s² I)``, ``x_m ~ N(W_m z_m + b_m, σ_m² I)``, all closed.

    Each A_m is c times an orthogonal matrix, so that ``z_m`` has the variance c² + s² in every direction and is worth
    the same to z_σ whatever m. Each W_m has orthogonal columns, so that ``p(z_m | x_m)`` is diagonal.
    """

    c, s = 0.8, 0.6

    def __init__(self, world: LinearGaussian) -> None:
        self.world = world
        generator = torch.Generator().manual_seed(3)
        self.A, self.a = {}, {}
        for m in SIZES:
            self.A[m] = self.c * torch.linalg.qr(torch.randn(D, D, dtype=torch.float64, generator=generator))[0]
            self.a[m] = torch.randn(D, dtype=torch.float64, generator=generator)

    def model(self, **fields: object) -> Nexus:
        """Exact decoders; encoders that are exact for a row with one modality: p(z_m | x_m), p(z_σ | z_m)."""
        model = make(self.world.schema, top_scale=self.s, message_dim=D, **fields)
        gain = 1 / (1 + self.c**2 / self.s**2)  # the variance of p(z_σ | z_m)
        for m in SIZES:
            W, b, sigma = self.world.W[m], self.world.b[m], self.world.sigma[m]
            precision = W.square().sum(0) / sigma**2
            variance = 1 / (precision + 1 / (self.c**2 + self.s**2))
            to_z = variance[:, None] * W.T / sigma**2
            shift = variance * self.a[m] / (self.c**2 + self.s**2)
            model.encoders[m] = Affine(to_z, shift - to_z @ b, variance.sqrt())
            model.decoders[m] = LikelihoodDecoder(_Column(W, b), NormalLikelihood(b.shape, scale=sigma))
            back = gain * self.A[m].T / self.s**2
            model.messages[m] = Affine(back, -back @ self.a[m])
            model.top_decoders[m] = Affine(self.A[m], self.a[m])
        identity, zero = torch.eye(D, dtype=torch.float64), torch.zeros(D, dtype=torch.float64)
        model.top_encoder = Affine(identity, zero, torch.full((D,), gain**0.5, dtype=torch.float64))
        return model

    def log_likelihood(self, batch: mvcore.Batch) -> Tensor:
        """Exact log p of what each row has."""
        values = []
        for row in range(len(batch)):
            have = [m for m in SIZES if bool(batch.column(m)[row])]
            one = batch.select(torch.tensor([row]))
            W, b, sigma = self.world.W, self.world.b, self.world.sigma
            to_shared = torch.cat([W[m] @ self.A[m] for m in have])
            noise = [self.s**2 * W[m] @ W[m].T + sigma[m] ** 2 * torch.eye(len(b[m])) for m in have]
            mean = torch.cat([W[m] @ self.a[m] + b[m] for m in have])
            density = MultivariateNormal(mean, to_shared @ to_shared.T + torch.block_diag(*noise))
            values.append(density.log_prob(torch.cat([one.x[m][0] for m in have])))
        return torch.stack(values)


class _Column(nn.Module):
    """The linear decoder network ``(n, D) → (n, 1, features)``."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.affine = Affine(weight, bias)

    def forward(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        mean: Tensor = self.affine(z)
        return mean[:, None]


@pytest.fixture
def hierarchy(world: LinearGaussian) -> Hierarchy:
    return Hierarchy(world)


def test_with_exact_posteriors_one_draw_gives_the_exact_likelihood_of_a_row_with_one_modality(
    hierarchy: Hierarchy,
) -> None:
    batch = hierarchy.world.sample(12, observed=torch.eye(3, dtype=torch.bool).repeat(4, 1))
    estimate = hierarchy.model().log_likelihood(batch, K=1)
    torch.testing.assert_close(estimate, hierarchy.log_likelihood(batch))


def test_importance_sampling_converges_to_the_exact_likelihood_of_complete_and_partial_rows(
    hierarchy: Hierarchy,
) -> None:
    batch = hierarchy.world.sample(7, observed=all_patterns(3))
    model, exact = hierarchy.model(), hierarchy.log_likelihood(batch)
    few = model.log_likelihood(batch, K=4)
    many = model.log_likelihood(batch, K=10_000)
    several = batch.observed.sum(1) > 1
    assert (few - exact)[several].abs().max() > 0.02  # the proposal of several modalities is not exact
    torch.testing.assert_close(many, exact, atol=0.05, rtol=0)


def test_the_mean_of_the_estimated_over_the_exact_likelihood_is_1(hierarchy: Hierarchy) -> None:
    batch = hierarchy.world.sample(7, observed=all_patterns(3))
    several = batch.select(batch.observed.sum(1) > 1)
    n, exact = 4_000, hierarchy.log_likelihood(several)
    many = several.select(torch.arange(len(several)).repeat_interleave(n))
    ratio = (hierarchy.model().log_likelihood(many, K=5) - exact.repeat_interleave(n)).exp().view(-1, n)
    error = ratio.std(1) / math.sqrt(n)
    assert (error < 0.05).all()
    assert ((ratio.mean(1) - 1).abs() < 5 * error).all()


def test_weights_and_gammas_and_betas_have_no_part_in_likelihoods(hierarchy: Hierarchy) -> None:
    batch = hierarchy.world.sample(7, observed=all_patterns(3))
    fields = {"gamma": 50.0, "beta": 3.0, "beta_top": 0.1, "dropout": 1.0, "modalities.a.weight": 7.0}
    plain, other = hierarchy.model(), hierarchy.model(**fields)
    assert torch.equal(plain.log_likelihood(batch, 5), other.log_likelihood(batch, 5))


def test_a_latent_that_no_row_has_is_drawn_from_the_top(hierarchy: Hierarchy) -> None:
    """Given z_σ the absent z_m is normal about A_m z_σ + a_m with the scale s; six standard errors."""
    n, batch = 5_000, hierarchy.world.sample(3, observed=torch.tensor([[True, False, True]]).repeat(3, 1))
    latents = hierarchy.model().encode(batch.without(["b"]), n)
    shared, z = latents["shared"], latents["bottom/b"]
    residual = (z - shared @ hierarchy.A["b"].T - hierarchy.a["b"]) / hierarchy.s
    assert residual.mean(0).abs().max() < 6 / math.sqrt(n)
    assert (residual.var(0) - 1).abs().max() < 6 * math.sqrt(2 / n)
    unit = (shared - shared.mean(0)) / shared.std(0)
    assert torch.einsum("kbi,kbj->bij", residual, unit).abs().max() < 6 * math.sqrt(n)


def test_a_row_that_lacks_one_draws_the_others_bottom_up(hierarchy: Hierarchy) -> None:
    """In a batch of all patterns; q(z_m | x_m) is the exact p(z_m | x_m), q(z_σ | ·) is about the mean message."""
    n, batch = 5_000, hierarchy.world.sample(7, observed=all_patterns(3))
    model = hierarchy.model()
    latents, experts = model.encode(batch, n), model.encode_modalities(batch).experts
    message = torch.zeros(n, 7, D, dtype=torch.float64)
    for i, m in enumerate(SIZES):
        rows, z = batch.rows(m), latents[f"bottom/{m}"]
        residual = (z[:, rows] - experts[m].loc) / experts[m].scale
        assert residual.mean(0).abs().max() < 6 / math.sqrt(n)
        assert (residual.var(0) - 1).abs().max() < 6 * math.sqrt(2 / n)
        message[:, rows] += model.messages[m](z[:, rows]).detach() / batch.observed.sum(1)[rows, None]
        assert bool(batch.observed[:, i].any())
    residual = (latents["shared"] - message) * math.sqrt(1 + hierarchy.c**2 / hierarchy.s**2)
    assert residual.mean(0).abs().max() < 6 / math.sqrt(n)
    assert (residual.var(0) - 1).abs().max() < 6 * math.sqrt(2 / n)


def test_the_prior_draws_top_down_with_the_moments_of_the_hierarchy(hierarchy: Hierarchy) -> None:
    n, model = 40_000, hierarchy.model()
    torch.manual_seed(0)
    latents = model.prior().draw(n)
    z = torch.cat([latents["shared"], *(latents[f"bottom/{m}"] for m in SIZES)], -1)[:, 0].detach()
    A = torch.cat([torch.eye(D, dtype=torch.float64), *(hierarchy.A[m] for m in SIZES)])
    own = torch.cat([torch.zeros(D), torch.full((3 * D,), hierarchy.s**2)]).double()
    mean = torch.cat([torch.zeros(D, dtype=torch.float64), *hierarchy.a.values()])
    torch.testing.assert_close(z.mean(0), mean, atol=0.03, rtol=0)  # six standard errors at a variance of 1
    torch.testing.assert_close(z.T.cov(), A @ A.T + own.diag(), atol=6 * math.sqrt(2 / n), rtol=0)
    density = MultivariateNormal(mean, A @ A.T + own.diag())
    torch.testing.assert_close(model.prior().log_prob(latents)[:, 0].detach(), density.log_prob(z))
    assert model.generate(3)["a"].shape == (3, SIZES["a"])


def test_a_row_with_nothing_has_the_prior(world: LinearGaussian) -> None:
    model = make(world.schema).eval()
    batch = world.sample(2, observed=torch.tensor([[True, False, False], [False, True, False]]))
    empty = model.encode_modalities(batch).only(["a"])
    with fixed_noise():
        given, prior = model.posterior(empty).draw(3), model.prior().draw(3)
    for name in ("shared", "bottom/a", "bottom/b", "bottom/c"):
        torch.testing.assert_close(given[name][:, 1], prior[name][:, 0])
    torch.testing.assert_close(model.posterior(empty).point()["shared"][0, 1], torch.zeros(D, dtype=torch.float64))


def test_blocks_change_neither_draws_nor_densities(world: LinearGaussian, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = world.sample(7, observed=all_patterns(3))
    model = make(world.schema)
    for K in (1, 5):
        whole, score = model.encode(batch, K), model.log_likelihood(batch, K)
        with monkeypatch.context() as patch:
            patch.setattr("mvcore_nexus.model.BLOCK", 3)
            parts, again = model.encode(batch, K), model.log_likelihood(batch, K)
        for name in whole.values:
            torch.testing.assert_close(parts[name], whole[name])
        torch.testing.assert_close(again, score)


def test_densities_follow_the_rows_of_repeated_pairs(world: LinearGaussian) -> None:
    """Latents may come packed in another order of rows than the batch's."""
    batch = world.sample(7, observed=all_patterns(3))
    model = make(world.schema).eval()
    encodings = model.encode_modalities(batch)
    latents, order = model.encode(batch, 2), torch.tensor([6, 0, 3, 3, 5])
    moved = Latents(latents.take(order), 7, rows=order)
    for density in (model.posterior(encodings), model.prior(encodings)):
        torch.testing.assert_close(density.log_prob(moved), density.log_prob(latents)[:, order])


# Partial rows


def only(schema: Schema, fields: dict[str, object]) -> dict[str, object]:
    """Fields with tables of the schema's modalities alone."""
    return {k: {m: v[m] for m in schema.names} if isinstance(v, dict) else v for k, v in fields.items()}


def test_a_row_has_the_loss_of_a_model_built_on_its_modalities_with_tables_of_dimensions(world: LinearGaussian) -> None:
    gamma, dims = {"a": 2.0, "b": 0.0, "c": 1.0}, {"a": 3, "b": 1, "c": 4}
    fields = {"dropout": 0.0, "bottom_dim": dims, "gamma": gamma, "samples": 3}
    batch = world.sample(14, observed=all_patterns(3).repeat(2, 1))
    model = make(world.schema, **fields)
    check_submodels(lambda s: make(s, **only(s, fields)), model, batch)
    check_neighbours(model, batch)
    check_conditions_on_every_subset(model, batch)
    check_no_rows(model, batch)


def test_nothing_is_computed_for_absent_modalities(world: LinearGaussian) -> None:
    batch = world.sample(7, observed=all_patterns(3))
    model, rows = make(world.schema, samples=1), {}
    for kind in ("encoders", "messages", "decoders", "top_decoders"):
        for m, module in getattr(model, kind).items():
            module.register_forward_pre_hook(
                lambda _, x, key=(kind, m): rows.update({key: x[0].flatten(0, -2).shape[0]})
            )
    model(batch)
    assert rows == {(kind, m): 4 for kind in ("encoders", "messages", "decoders", "top_decoders") for m in SIZES}


def test_the_plugin_describes_itself_and_refuses_what_does_not_fit(world: LinearGaussian) -> None:
    text = CliRunner().invoke(main, ["describe", "nexus"]).output
    for said in (
        "Vasco",
        "doi.org/10.1016/j.neunet.2021.11.019",
        "bottom_dim",
        "beta_top",
        "forced perceptual dropout",
    ):
        assert said in text
    for name, value in {"dropout": 1.5, "bottom_dim": 0, "gamma": {"a": -1.0}, "top_scale": 0.0, "bottom": 3}.items():
        with pytest.raises(ConfigError):
            make(world.schema, **{name: value})
    with pytest.raises(ConfigError, match=r"gamma\.nose: unknown modality"):
        make(world.schema, gamma={"nose": 1.0})


# Digits


def test_on_digits_with_30_percent_missing_the_shared_latent_tells_the_digit_and_every_view_is_imputed(
    check_mfeat: Callable[..., dict[str, float]],
) -> None:
    def create(data: mvcore.MultimodalDataset) -> Model:
        narrow = {"encoder.hidden": [256], "decoder.hidden": [256]}
        parts = {f"modalities.{m}.{part}": v for m in data.schema.names for part, v in narrow.items()}
        return mvcore.create("nexus", data, bottom_dim=16, message_dim=256, top_hidden=[256], **parts)

    scores = check_mfeat(create, lr=3e-3)
    assert scores["probe"] >= 0.95
    assert min(scores.values()) > 0.1
