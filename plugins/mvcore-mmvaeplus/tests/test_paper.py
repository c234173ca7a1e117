"""The laws of MMVAE+ (Palumbo et al., 2023): on linear maps, whose posteriors are known, with arbitrary encoders."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor
from torch.distributions import Laplace, MultivariateNormal, Normal

import mvcore
from mvcore.cli import main
from mvcore.data import Schema
from mvcore.distributions import DiagonalLaplace, DiagonalNormal
from mvcore.errors import ConfigError
from mvcore.inference import importance_weights
from mvcore.models import Model
from mvcore.testing import (
    LinearGaussian,
    all_patterns,
    check_neighbours,
    check_no_rows,
    check_submodels,
    fixed_noise,
    small,
)

SIZES = {"a": 5, "b": 6, "c": 4}
D, PRIVATE = 2, {"a": 1, "b": 3, "c": 1}
NORMAL = {
    "posterior.family": "normal", "posterior.scale": "exp", "prior.family": "normal",
    "loss.auxiliary.family": "normal", "loss.auxiliary.scale": "exp",
}  # fmt: skip
ESTIMATORS = pytest.mark.parametrize("estimator", ["iwae", "dreg"])


@pytest.fixture
def world() -> LinearGaussian:
    return LinearGaussian(SIZES, D, PRIVATE)


@pytest.fixture
def rows(world: LinearGaussian) -> mvcore.Batch:
    return world.sample(7, observed=all_patterns(3))


def make(schema: Schema, **fields: object) -> Model:
    """MMVAE+ with random small encoders and auxiliary scales that are not 1, in float64."""
    private = {m: PRIVATE[m] for m in schema.names if m in PRIVATE}
    model = small("mmvaeplus", schema, **{"latent_dim": D, "private_dim": private, **fields})
    with torch.no_grad():
        for r in model.loss.auxiliary.values():
            r.log_scale.copy_(torch.linspace(-0.7, 0.2, len(r.log_scale)))
    return model


def with_exact_decoders(world: LinearGaussian, **fields: object) -> Model:
    """A model with normal latents and arbitrary encoders that decodes as the linear maps do."""
    model = make(world.schema, **NORMAL, **fields)
    model.decoders.update(world.decoders())
    return model


def repeated(batch: mvcore.Batch, times: int) -> mvcore.Batch:
    return batch.select(torch.arange(len(batch)).repeat(times))


def estimate(values: Callable[[], Tensor], repeats: int) -> tuple[Tensor, Tensor]:
    """Mean and standard error of what a function gives at ``repeats`` calls."""
    drawn = torch.stack([values().detach() for _ in range(repeats)])
    return drawn.mean(0), drawn.std(0) / math.sqrt(repeats)


def encoder_gradient(model: Model, batch: mvcore.Batch) -> Tensor:
    model.zero_grad()
    model(batch).loss.backward()
    return torch.cat([p.grad.flatten() for p in model.encoders.parameters() if p.grad is not None])


def decoded(model: Model, batch: mvcore.Batch) -> dict[str, Tensor]:
    """The codes ``(n, D + D_m)`` that each decoder's network is given while the loss is taken."""
    seen: dict[str, Tensor] = {}
    for name, decoder in model.decoders.items():
        decoder.network.register_forward_pre_hook(lambda _, args, name=name: seen.update({name: args[0].detach()}))
    model(batch)
    return seen


def own_and_other(batch: mvcore.Batch, name: str) -> Tensor:
    """Of the pairs that a modality is decoded for, in order of component and row, which are of its own component."""
    have = batch.column(name)
    return torch.cat([torch.full((int((have & batch.column(m)).sum()),), m == name) for m in batch.names])


# The bound


def by_hand(
    model: Model, row: dict[str, Tensor], noise: dict[int, Tensor], beta: float, weight: dict[str, float]
) -> float:
    """The loss of one row with Laplace latents, by loops over modalities and draws."""

    def softmax_scale(log_scale: Tensor) -> Tensor:
        return log_scale.exp() / log_scale.exp().sum() * len(log_scale)

    encoded = {m: model.encoders[m](x[None]) for m, x in row.items()}
    q_u = {m: Laplace(e.loc[0], softmax_scale(e.log_scale[0])) for m, e in encoded.items()}
    q_w = {m: Laplace(e.private_loc[0], softmax_scale(e.private_log_scale[0])) for m, e in encoded.items()}
    total = 0.0
    for m in row:
        weights = []
        for k in range(len(noise[D])):
            u = q_u[m].loc + q_u[m].scale * noise[D][k]
            w = q_w[m].loc + q_w[m].scale * noise[PRIVATE[m]][k]
            mixture = sum(q.log_prob(u).sum().exp() for q in q_u.values()) / len(row)
            log_p = -u.abs().sum() - w.abs().sum() - (len(u) + len(w)) * math.log(2)
            lw = beta * (log_p - mixture.log() - q_w[m].log_prob(w).sum())
            for n, x in row.items():
                r_n = softmax_scale(model.loss.auxiliary[n].log_scale)
                private = w if n == m else r_n * noise[PRIVATE[n]][k]
                mean = model.decoders[n].network(torch.cat([u, private])[None])[0, 0]
                lw = lw + weight[n] * Normal(mean, 1.0).log_prob(x).sum()
            weights.append(lw)
        total -= float((torch.stack(weights).exp().mean()).log().detach()) / len(row)
    return total


@ESTIMATORS
def test_loss_is_the_formula_computed_by_hand(estimator: str) -> None:
    world = LinearGaussian({"a": 3, "b": 2}, D, {})
    batch = world.sample(3, observed=all_patterns(2))
    fields = {"loss.samples": 3, "loss.beta": 1.7, "loss.estimator": estimator, "modalities.a.weight": 0.6}
    model = make(world.schema, **fields)
    with fixed_noise():
        loss = model(batch).loss
        noise = {d: DiagonalLaplace.unit(1, d, like=loss.detach()).rsample(3)[:, 0] for d in {D, *PRIVATE.values()}}
    weight = {"a": 0.6, "b": 1.0}
    observed = [{"b": batch.x["b"][0]}, {"a": batch.x["a"][0]}, {"a": batch.x["a"][1], "b": batch.x["b"][1]}]
    expected = sum(by_hand(model, row, noise, 1.7, weight) for row in observed) / 3
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("beta", [1.0, 2.5])
def test_loss_with_one_draw_is_the_likelihood_and_the_divergences(
    world: LinearGaussian, rows: mvcore.Batch, beta: float
) -> None:
    r"""-log p + KL(q‖post) + mean_m [KL(q_m(w)‖post) + Σ_{n≠m} KL(r_n‖post) − KL(r_n‖p)], (β − 1) to the prior."""
    model = with_exact_decoders(world, **{"loss.beta": beta})
    q, prior = model.posterior(model.encode_modalities(rows)), model.prior(model.encode_modalities(rows))
    draws = q.shared.draw(30_000)
    log_q = q.shared.log_prob(draws)
    law = -world.log_likelihood(rows) + (log_q - world.posterior(rows).log_prob(draws["shared"])).mean(0)
    law += (beta - 1) * (log_q - prior.shared.log_prob(draws)).mean(0)
    count = rows.observed.sum(1)
    for m in SIZES:
        have = rows.rows(m)
        unit, exact = DiagonalNormal.unit(1, PRIVATE[m], like=law), world.private_posterior(rows, m)
        q_m, r_m = q.private[m].take(have), model.loss.auxiliary[m]().components[0]
        own = q_m.kl(exact) + (beta - 1) * q_m.kl(unit)
        other = r_m.kl(exact) - r_m.kl(unit)
        law[have] += (own + (count[have] - 1) * other) / count[have]
    many = repeated(rows, 500)
    loss, error = estimate(lambda: model(many).loss, 30)
    assert float((loss - law.mean()).detach().abs()) < 6 * float(error) + 0.02  # 0.02: the law's own draws


@pytest.mark.parametrize("r_is_p", [True, False])
def test_loss_with_many_draws_is_the_integral_over_each_component(r_is_p: bool) -> None:
    r"""-mean_m log ∫ p(u) q_m(u)/q(u) p(x_m|u) ∏_{n≠m} ∫ r_n(w) p(x_n|u,w) dw du; with r = p the likelihood's own."""
    private = {m: 1 for m in SIZES}
    world = LinearGaussian(SIZES, 1, private)
    rows = world.sample(7, observed=all_patterns(3))
    model = with_exact_decoders(world, latent_dim=1, private_dim=private, **{"loss.samples": 5_000})
    if r_is_p:
        for r in model.loss.auxiliary.values():
            r.log_scale.data.zero_()
    grid = torch.linspace(-12, 12, 4001, dtype=torch.float64)[:, None]
    step = math.log(24 / 4000)
    law = []
    for i, pattern in enumerate(rows.observed):
        one = rows.select(torch.tensor([i])).only([m for m, has in zip(SIZES, pattern.tolist(), strict=True) if has])
        experts = model.posterior(model.encode_modalities(one)).shared.components
        log_q = torch.stack([experts[c][0].log_prob(grid) for c in range(len(one.names))])
        mixture = log_q.logsumexp(0) - math.log(len(one.names))
        bounds = []
        for c, m in enumerate(one.names):
            if r_is_p:
                value = world.posterior(one)[0].log_prob(grid) + world.log_likelihood(one)
            else:
                value = Normal(torch.zeros_like(grid[:, 0]), 1.0).log_prob(grid[:, 0])
                for n in one.names:
                    scale = 1.0 if n == m else float(model.loss.auxiliary[n].log_scale.detach().exp())
                    cov = scale**2 * world.V[n] @ world.V[n].T + world.sigma[n] ** 2 * torch.eye(
                        SIZES[n], dtype=torch.float64
                    )
                    value = value + MultivariateNormal(grid @ world.W[n].T + world.b[n], cov).log_prob(one.x[n])
            bounds.append((value + log_q[c] - mixture).logsumexp(0) + step)
        law.append(-torch.stack(bounds).mean())
    loss, error = estimate(lambda: model(rows).loss, 12)
    assert float((loss - torch.stack(law).mean()).detach().abs()) < 6 * float(error) + 2e-3  # 2e-3: the O(1/K) left


@ESTIMATORS
@pytest.mark.parametrize("samples", [1, 4])
def test_rows_of_one_modality_have_the_bound_of_a_vae_with_two_latents(
    world: LinearGaussian, samples: int, estimator: str
) -> None:
    rows = world.sample(9, observed=torch.eye(3, dtype=torch.bool).repeat(3, 1))
    model = with_exact_decoders(world, **{"loss.samples": samples, "loss.beta": 1.5, "loss.estimator": estimator})
    other = mvcore.create("multimodal", world.schema, **_vae_fields(model, samples)).double()
    other.load_state_dict({k: v for k, v in model.state_dict().items() if k in other.state_dict()}, strict=False)
    other.decoders.update(world.decoders())
    with fixed_noise():
        torch.testing.assert_close(model(rows).loss, other(rows).loss)


def _vae_fields(model: Model, samples: int) -> dict[str, object]:
    """The core's IWAE over q(u | x_m) q(w_m | x_m), with the networks of a model."""
    keep = {"latent_dim": D, "private_dim": PRIVATE, "posterior.subsets": "each", "posterior.prior_expert": "none"}
    loss = {"loss": "iwae", "loss.samples": samples, "loss.beta": 1.5}
    return keep | loss | {"modalities": dict(model.config.modalities), "modality_dropout": 0.0}


@pytest.mark.parametrize("samples", [1, 5])
def test_one_modality_with_its_exact_posterior_has_its_likelihood_at_any_draw(
    world: LinearGaussian, samples: int
) -> None:
    rows = world.sample(9, observed=torch.eye(3, dtype=torch.bool).repeat(3, 1))
    model = with_exact_decoders(world, **{"loss.samples": samples})
    model.encoders.update(world.encoders("posterior"))
    torch.testing.assert_close(model(rows).loss, -world.log_likelihood(rows).mean())


def test_divergence_of_a_row_with_one_modality_is_that_of_two_laplaces(world: LinearGaussian) -> None:
    r"""With decoders that ignore their code: β Σ_d log(1/b) + |μ| + b exp(−|μ|/b) − 1, over both latents."""
    rows = world.sample(1).only(["b"])
    model = make(world.schema, **{"loss.beta": 2.0})
    decoder = model.decoders["b"].network.body[-1]
    decoder.weight.data.zero_()
    constant = Normal(decoder.bias, 1.0).log_prob(rows.x["b"]).sum()
    encoded = model.encoders["b"](rows.x["b"])
    law = -constant
    for mu, s in [(encoded.loc, encoded.log_scale), (encoded.private_loc, encoded.private_log_scale)]:
        b = len(s[0]) * s.softmax(-1)
        law = law + 2.0 * (-b.log() + mu.abs() + b * (-mu.abs() / b).exp() - 1).sum()
    many = repeated(rows, 4_000)
    loss, error = estimate(lambda: model(many).loss, 20)
    assert float((loss - law).detach().abs()) < 6 * float(error)
    assert float(error) < 0.01


# The draws


def test_a_modality_is_decoded_once_for_each_modality_that_the_row_has(
    world: LinearGaussian, rows: mvcore.Batch
) -> None:
    model = make(world.schema, **{"loss.samples": 4})
    for name, codes in decoded(model, rows).items():
        assert len(codes) == 4 * int(rows.observed[rows.column(name)].sum())


def test_a_component_decodes_its_modality_from_its_posterior_and_others_from_their_auxiliary_prior(
    world: LinearGaussian,
) -> None:
    rows = world.sample(7000, observed=all_patterns(3).repeat(1000, 1))
    model = make(world.schema)
    for name in SIZES:
        model.encoders[name].head.linear.bias.data[-2 * PRIVATE[name] : -PRIVATE[name]] += 1000
    for name, codes in decoded(model, rows).items():
        w, own = codes[:, D:], own_and_other(rows, name)
        assert bool((w[own] > 900).all())
        scale = model.loss.auxiliary[name]().components[0].scale[0]
        assert w[~own].mean(0).tolist() == pytest.approx([0] * PRIVATE[name], abs=0.1)
        assert w[~own].abs().mean(0).tolist() == pytest.approx(scale.tolist(), rel=0.1)  # E|w| of a Laplace


def test_no_two_decoded_pairs_share_a_private_latent() -> None:
    world = LinearGaussian(SIZES, D)
    model = make(world.schema, private_dim=1, **{"loss.samples": 2})
    for r in model.loss.auxiliary.values():
        r.log_scale.data.zero_()
    codes = decoded(model, repeated(world.sample(1), 5))
    w = torch.cat([c[:, D:] for c in codes.values()])
    assert len(w) == 2 * 3 * 3 * 5
    assert len(w.unique()) == len(w)


def test_auxiliary_priors_learn_only_from_rows_that_have_another_modality(
    world: LinearGaussian, rows: mvcore.Batch
) -> None:
    model = make(world.schema)
    model(rows.select(torch.tensor([0, 1, 3, 2]))).loss.backward()  # c; b; a; b and c
    gradients = {m: model.loss.auxiliary[m].log_scale.grad for m in SIZES}
    assert not gradients["a"].any()
    assert gradients["b"].all()
    # softmax of one dimension is 1, whatever is learned
    assert not gradients["c"].any()


def test_absent_modalities_and_generation_take_their_private_latents_from_the_prior(world: LinearGaussian) -> None:
    model = make(world.schema)
    for latents in [model.prior().draw(20_000), model.encode(world.sample(1).only(["b"]), 20_000)]:
        a, c = latents["private/a"].detach().flatten(), latents["private/c"].detach().flatten()
        assert float(a.abs().mean()) == pytest.approx(1, abs=0.05)
        assert float(c.abs().mean()) == pytest.approx(1, abs=0.05)
        assert abs(float(torch.corrcoef(torch.stack([a, c]))[0, 1])) < 0.05


# The gradient


def test_dreg_has_the_value_and_the_decoder_gradients_of_iwae(world: LinearGaussian, rows: mvcore.Batch) -> None:
    results = []
    for estimator in ["iwae", "dreg"]:
        model = make(world.schema, **{"loss.samples": 4, "loss.estimator": estimator})
        torch.manual_seed(1)
        loss = model(rows).loss
        loss.backward()
        modules = [*model.decoders.parameters(), *model.loss.parameters()]
        results.append((loss.detach(), [p.grad for p in modules], [p.grad for p in model.encoders.parameters()]))
    torch.testing.assert_close(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1])
    assert all(not torch.allclose(a, b) for a, b in zip(results[0][2], results[1][2], strict=True))


@pytest.mark.parametrize(("patterns", "samples"), [(all_patterns(3), 1), (torch.eye(3, dtype=torch.bool), 4)])
def test_dreg_has_the_expected_gradient_of_iwae_with_one_draw_or_one_component(
    world: LinearGaussian, patterns: Tensor, samples: int
) -> None:
    batch = repeated(world.sample(len(patterns), observed=patterns), 150)
    models = {e: make(world.schema, **{"loss.samples": samples, "loss.estimator": e}) for e in ("iwae", "dreg")}
    plain, error = estimate(lambda: encoder_gradient(models["iwae"], batch), 30)
    doubly, other_error = estimate(lambda: encoder_gradient(models["dreg"], batch), 30)
    errors = (error.square() + other_error.square()).sqrt()
    assert bool(((plain - doubly).abs() < 6 * errors + 1e-12).all())
    assert float(errors.norm()) < 0.05 * float(plain.norm())


def test_dreg_gradient_of_an_exact_posterior_is_zero_draw_by_draw(world: LinearGaussian) -> None:
    rows = world.sample(6, observed=torch.eye(3, dtype=torch.bool).repeat(2, 1))
    model = with_exact_decoders(world, **{"loss.samples": 3, "loss.estimator": "dreg"})
    model.encoders.update(world.encoders("posterior"))
    gradient = encoder_gradient(model, rows)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-12, rtol=0)


@ESTIMATORS
def test_the_loss_can_be_taken_without_gradients(world: LinearGaussian, rows: mvcore.Batch, estimator: str) -> None:
    model = make(world.schema, **{"loss.samples": 2, "loss.estimator": estimator})
    with fixed_noise():
        expected = model(rows).loss.detach()
        with torch.no_grad():
            torch.testing.assert_close(model(rows).loss, expected)
        with torch.inference_mode():
            torch.testing.assert_close(model(rows).loss, expected)


# Likelihoods


def test_importance_weights_do_not_depend_on_the_private_latents(world: LinearGaussian, rows: mvcore.Batch) -> None:
    """[W V] orthogonal: log p(x, u, w) − log q(u, w) = log p(x) + log p(u | x) − log q(u) at every draw."""
    model = with_exact_decoders(world)
    model.encoders.update(world.encoders("posterior"))
    encodings = model.encode_modalities(rows)
    latents, log_weights = importance_weights(model, rows, encodings, 6)
    exact = world.posterior(rows).take(latents.row_index(torch.device("cpu")))
    shared = exact.log_prob(latents["shared"]) - model.posterior(encodings).shared.log_prob(latents)
    torch.testing.assert_close(log_weights, latents.per_row(world.log_likelihood(rows)) + shared)


def test_log_likelihood_of_one_modality_is_exact_with_one_draw_and_ignores_weights(world: LinearGaussian) -> None:
    rows = world.sample(6, observed=torch.eye(3, dtype=torch.bool).repeat(2, 1))
    model = with_exact_decoders(world, **{"modalities.b.weight": 3.0, "loss.beta": 2.5})
    model.encoders.update(world.encoders("posterior"))
    torch.testing.assert_close(model.log_likelihood(rows, 1), world.log_likelihood(rows))


def test_the_mean_of_the_estimated_over_the_exact_likelihood_is_one(world: LinearGaussian, rows: mvcore.Batch) -> None:
    model = with_exact_decoders(world)
    model.encoders.update(world.encoders("posterior"))
    many, exact = repeated(rows, 3000), world.log_likelihood(rows)
    ratio = (model.log_likelihood(many, 3).view(3000, 7) - exact).exp()
    error = ratio.std(0) / math.sqrt(3000)
    assert bool(((ratio.mean(0) - 1).abs() < 6 * error + 1e-9).all())
    assert float(error.max()) < 0.05


# Partial rows


@ESTIMATORS
@pytest.mark.parametrize("fields", [{}, NORMAL])
def test_a_row_has_the_loss_of_a_model_built_on_its_modalities(
    world: LinearGaussian, fields: dict[str, object], estimator: str
) -> None:
    fields = {"loss.samples": 3, "loss.beta": 1.3, "loss.estimator": estimator, **fields}
    batch = world.sample(14, observed=all_patterns(3).repeat(2, 1))
    check_submodels(lambda s: make(s, **fields), _with_scales(make(world.schema, **fields)), batch)


def _with_scales(model: Model) -> Model:
    """Auxiliary scales that are not those that ``make`` gives a smaller model."""
    for r in model.loss.auxiliary.values():
        r.log_scale.data.add_(torch.linspace(0, 0.5, len(r.log_scale)))
    return model


def test_a_modality_without_a_private_latent_is_decoded_from_the_shared_one(world: LinearGaussian) -> None:
    model = make(world.schema, private_dim={"a": 1, "b": 3}, **{"loss.samples": 2})
    batch = world.sample(14, observed=all_patterns(3).repeat(2, 1))
    assert decoded(model, batch)["c"].shape[1] == D
    check_neighbours(model, batch)
    check_no_rows(model, batch)


@ESTIMATORS
def test_training_and_scoring_leave_the_callers_batch_as_it_is(
    world: LinearGaussian, rows: mvcore.Batch, estimator: str
) -> None:
    model = make(world.schema, **{"loss.estimator": estimator})
    before = {m: x.clone() for m, x in rows.x.items()}
    model(rows).loss.backward()
    model.log_likelihood(rows, 3)
    assert rows.names == tuple(before)
    assert torch.equal(rows.observed, all_patterns(3))
    assert all(torch.equal(rows.x[m], x) for m, x in before.items())


# Configs and files


def test_defaults_are_those_of_the_official_code(world: LinearGaussian) -> None:
    config = mvcore.create("mmvaeplus", world.schema).config
    assert (config.latent_dim, config.private_dim, config.loss.samples, config.loss.beta) == (32, 32, 1, 1.0)
    posterior, auxiliary = config.posterior, config.loss.auxiliary
    assert (posterior.family, posterior.scale, posterior.subsets, posterior.prior_expert) == (
        "laplace", "softmax", "each", "none",
    )  # fmt: skip
    assert (config.prior.family, config.prior.learn_scale) == ("laplace", False)
    assert (auxiliary.family, auxiliary.scale, auxiliary.learn_scale) == ("laplace", "softmax", True)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({**NORMAL, "posterior.subsets": "all"}, "posterior.subsets='each', got 'all'"),
        ({**NORMAL, "posterior.subsets": "observed"}, "got 'observed'"),
        ({"private_dim": 0}, "needs private latents"),
        ({"loss.samples": 0}, "samples"),
        ({"loss.beta": -1.0}, "beta"),
    ],
)
def test_what_the_loss_cannot_train_is_refused_with_the_reason(
    world: LinearGaussian, fields: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        mvcore.create("mmvaeplus", world.schema, **fields)


def test_a_loss_put_together_by_hand_refuses_other_components(world: LinearGaussian, rows: mvcore.Batch) -> None:
    model = make(world.schema, **NORMAL)
    model.joint_posterior.subsets = "all"
    with pytest.raises(ConfigError, match="'all'"):
        model(rows)


def test_the_command_line_describes_the_model_and_its_loss() -> None:
    result = CliRunner().invoke(main, ["describe", "mmvaeplus"])
    assert result.exit_code == 0
    assert "Palumbo et al., 2023" in result.output
    assert "auxiliary" in result.output
    assert "private_dim" in result.output


# Digits


@pytest.mark.slow
def test_six_views_of_digits_with_a_third_missing_are_embedded_and_imputed(
    check_mfeat: Callable[..., dict[str, float]],
) -> None:
    """The defaults but for narrower networks, for speed."""

    def create(data: mvcore.MultimodalDataset) -> Model:
        widths = {f"modalities.{m}.{part}.hidden": [128] for m in data.schema.names for part in ("encoder", "decoder")}
        return mvcore.create("mmvaeplus", data, **widths)

    assert check_mfeat(create)["probe"] >= 0.95
