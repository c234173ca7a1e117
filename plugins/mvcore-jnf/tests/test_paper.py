"""The laws of JNF (Senellart et al., 2023 and 2025): on linear maps, whose posteriors are known, with any encoders."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from mvcore.distributions import DiagonalNormal, Latents
from mvcore.models import Model
from mvcore.testing import LinearGaussian, all_patterns, fixed_noise, sigma_points, small

SIZES = {"a": 5, "b": 6, "c": 4}
D = 2
SHORT = {"hmc.steps": 6, "hmc.adapt": 3, "hmc.leapfrog": 3, "point_draws": 4}


@pytest.fixture
def world() -> LinearGaussian:
    return LinearGaussian(SIZES, D)


def make(world: LinearGaussian, *, bend: float = 0.0, **fields: object) -> Model:
    """A JNF with exact decoders and random small encoders, in float64; flows are the identity unless bent."""
    chosen = {"latent_dim": world.latent_dim, "joint_hidden": [8], "flow.hidden": [8], **SHORT, **fields}
    model = small("jnf", world.schema, **chosen)
    model.decoders.update(world.decoders())
    with torch.no_grad():
        for parameter in model.flows.parameters():
            parameter.add_(bend * torch.randn_like(parameter))
    return model


def exact(world: LinearGaussian, **fields: object) -> Model:
    """The same with p(z | x_m) and p(z | X) for encoders."""
    model = make(world, **fields)
    model.encoders.update(world.encoders("posterior"))
    model.joint_encoder = world.joint_encoder()
    return model


def product(densities: list[DiagonalNormal]) -> tuple[Tensor, Tensor]:
    """Mean and variance of ∏ q_m / p^(n−1) for normals."""
    precision = sum(q.scale**-2 for q in densities) - (len(densities) - 1)
    return sum(q.scale**-2 * q.loc for q in densities) / precision, 1 / precision


def entropy(q: DiagonalNormal) -> Tensor:
    return Normal(q.loc, q.scale).entropy().sum(-1)


# stage 1


@pytest.mark.parametrize("beta", [1.0, 2.5])
def test_joint_stage_is_the_likelihood_and_the_divergence_from_the_exact_posterior(
    world: LinearGaussian, beta: float
) -> None:
    batch, model = world.sample(8), make(world, samples=2 * D, beta=beta)
    q = model.encode_modalities(batch).joint
    law = -world.log_likelihood(batch) + q.kl(world.posterior(batch))
    law = law + (beta - 1) * q.kl(DiagonalNormal.unit(8, D, like=q.loc))
    with sigma_points():
        torch.testing.assert_close(model(batch).loss, law.mean())


def test_partial_row_is_the_likelihood_and_the_mean_divergence_of_its_surrogates(world: LinearGaussian) -> None:
    batch = world.sample(18, observed=all_patterns(3)[:-1].repeat(3, 1))
    model = make(world, samples=2 * D)
    law, exact_posterior = -world.log_likelihood(batch), world.posterior(batch)
    encoded = model.encode_modalities(batch).experts
    counts = batch.observed.sum(1)
    for m in SIZES:
        rows = batch.rows(m)
        law[rows] += encoded[m].base.kl(exact_posterior.take(rows)) / counts[rows]
    with sigma_points():
        for stage in ("joint", "flows"):
            torch.testing.assert_close(model(batch, stage=stage).loss, law.mean())


@pytest.mark.parametrize("kind", ["autoregressive", "coupling"])
def test_partial_rows_follow_their_formula_for_bent_flows(world: LinearGaussian, kind: str) -> None:
    observed = torch.tensor([[True, True, False], [False, True, False], [True, False, True]])
    batch = world.sample(3, observed=observed)
    weight, beta = {"a": 0.5, "b": 1.0, "c": 3.0}, 1.7
    weights = {f"modalities.{m}.weight": w for m, w in weight.items()}
    model = make(world, bend=0.4, beta=beta, samples=3, **{"flow.kind": kind}, **weights)
    expected = torch.zeros(3, dtype=torch.float64)
    with fixed_noise():
        for row in range(3):
            one = batch.select(torch.tensor([row]))
            have = [m for m in SIZES if one.column(m)[0]]
            for m in have:
                flow = model.flows[m](model.encoders[m](one.x[m]))
                z = flow.rsample(3)[:, 0]
                bound = beta * (Normal(0, 1).log_prob(z).sum(-1) - flow.log_prob(z[:, None])[:, 0])
                for n in have:
                    mean = z @ world.W[n].T + world.b[n]
                    bound = bound + weight[n] * Normal(mean, world.sigma[n]).log_prob(one.x[n]).sum(-1)
                expected[row] -= bound.mean() / len(have)
        for stage in ("joint", "flows"):
            torch.testing.assert_close(model(batch, stage=stage).loss, expected.mean())


def test_terms_sum_to_the_loss_and_the_warm_up_starts_without_divergence(world: LinearGaussian) -> None:
    batch = world.sample(7, observed=all_patterns(3))
    model = make(world, bend=0.3, warmup=4.0)
    for stage in ("joint", "flows"):
        output = model(batch, stage=stage)
        torch.testing.assert_close(sum(output.terms.values()), output.loss.detach())
    with fixed_noise():
        full, half, none = (model(batch, epoch=epoch).terms["kl"] for epoch in (4.0, 2.0, 0.0))
    torch.testing.assert_close(half, full / 2)
    assert float(none) == 0


# stage 2


def test_flows_stage_with_identity_flows_is_divergence_and_entropy(world: LinearGaussian) -> None:
    batch, model = world.sample(8), make(world, samples=2 * D)
    encodings = model.encode_modalities(batch)
    q = encodings.joint
    law = sum(q.kl(encodings.experts[m].base) + entropy(q) for m in SIZES)
    with sigma_points():
        torch.testing.assert_close(model(batch, stage="flows").loss, law.mean())


def test_flows_stage_sends_no_gradient_to_the_joint_vae_but_through_its_decoders(world: LinearGaussian) -> None:
    batch = world.sample(7, observed=all_patterns(3))
    model = make(world, bend=0.3)
    model(batch, stage="flows").loss.backward()
    frozen = {id(p) for module in model.stages()[1].frozen for p in module.parameters()}
    assert len(frozen) == len([*model.joint_encoder.parameters(), *model.decoders.parameters()])
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad
        assert (parameter.grad is None) == (id(parameter) in frozen), name
    model.zero_grad()
    model(batch.select(~batch.observed.all(1)), stage="flows").loss.backward()
    assert all(p.grad.any() for m in SIZES for p in model.encoders[m].head.parameters())


# the flows


@pytest.mark.parametrize("kind", ["autoregressive", "coupling"])
def test_flow_density_integrates_to_one_and_is_that_of_its_draws(world: LinearGaussian, kind: str) -> None:
    model = make(world, bend=0.4, **{"flow.kind": kind, "flow.transforms": 3})
    density = model.flows["a"](model.encoders["a"](world.sample(2).x["a"]))
    line = torch.linspace(-15, 15, 601, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)
    mass = density.log_prob(grid[:, None].expand(-1, 2, -1)).exp() * (line[1] - line[0]) ** 2
    torch.testing.assert_close(mass.sum(0), torch.ones(2, dtype=torch.float64), atol=1e-3, rtol=0)
    z, log_q = density.rsample_and_log_prob(20_000)
    torch.testing.assert_close(log_q, density.log_prob(z))
    for f in (lambda v: v[..., 0], lambda v: v[..., 1] ** 2, lambda v: torch.sin(v.prod(-1))):
        error = f(z).std(0) / math.sqrt(len(z))
        assert ((f(z).mean(0) - (mass * f(grid)[:, None]).sum(0)).abs() < 5 * error + 1e-3).all()
    assert (density.log_prob(z) - density.base.log_prob(z)).abs().mean() > 0.1  # the flow is not the identity


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("kind", ["autoregressive", "coupling"])
def test_inverse_of_a_flow_is_its_inverse_in_any_dimension(kind: str, size: int) -> None:
    model = make(LinearGaussian(SIZES, size), bend=0.5, **{"flow.kind": kind})
    transform = model.flows["a"](model.encoders["a"](torch.randn(4, 5).double())).transforms[1]
    u = torch.randn(6, 4, size, dtype=torch.float64)
    v, log_det = transform(u)
    back, again = transform.inverse(v)
    torch.testing.assert_close(back, u)
    torch.testing.assert_close(again, log_det)
    jacobian = torch.autograd.functional.jacobian(lambda x: transform(x.expand(1, 4, -1))[0][0, 0], u[0, 0])
    torch.testing.assert_close(torch.linalg.slogdet(jacobian)[1], transform(u[:1, :1].expand(1, 4, -1))[1][0, 0])


# likelihoods


def test_exact_encoders_give_the_exact_likelihood_with_one_draw(world: LinearGaussian) -> None:
    observed = torch.tensor([[True, True, True], [True, False, False], [False, False, True]])
    batch = world.sample(3, observed=observed)
    torch.testing.assert_close(exact(world).log_likelihood(batch, K=1), world.log_likelihood(batch))


def test_likelihood_of_two_of_three_modalities_converges(world: LinearGaussian) -> None:
    batch = world.sample(3, observed=~torch.eye(3, dtype=torch.bool))
    estimate = exact(world).log_likelihood(batch, K=20_000)
    torch.testing.assert_close(estimate, world.log_likelihood(batch), atol=0.05, rtol=0)


def test_mean_of_the_estimated_over_the_exact_likelihood_is_one(world: LinearGaussian) -> None:
    repeats = 3000
    batch = world.sample(7, observed=all_patterns(3))
    model = exact(world, bend=0.15)
    many = batch.select(torch.arange(7).repeat(repeats))
    ratio = (model.log_likelihood(many, K=3) - world.log_likelihood(batch).repeat(repeats)).exp().view(repeats, 7)
    error = ratio.std(0) / math.sqrt(repeats)
    assert ((ratio.mean(0) - 1).abs() < 5 * error + 1e-9).all(), (ratio.mean(0), error)


def test_proposal_is_the_mixture_of_the_flows_however_it_is_drawn(world: LinearGaussian) -> None:
    batch = world.sample(7, observed=all_patterns(3))
    model = make(world, bend=0.3)
    q = model.proposal(model.encode_modalities(batch))
    z = torch.randn(4, 7, D, dtype=torch.float64)
    for row, have in enumerate(batch.observed.tolist()):
        one = batch.select(torch.tensor([row]))
        here, members = z[:, row : row + 1], [m for m, has in zip(SIZES, have, strict=True) if has]
        alone = [model.flows[m](model.encoders[m](one.x[m])).log_prob(here) for m in members]
        law = torch.stack(alone).logsumexp(0)[:, 0] - math.log(len(alone))
        if all(have):
            law = model.encode_modalities(one).joint.log_prob(here)[:, 0]
        torch.testing.assert_close(q.log_prob(Latents({"shared": z}, 7))[:, row], law)
    means = {}
    for how in ("random", "each", "spread"):
        latents = q.draw(6000, how)
        torch.testing.assert_close(latents.mean(torch.ones_like(latents["shared"][..., 0])), torch.ones(7).double())
        means[how] = torch.stack([latents.mean(latents["shared"][..., d]) for d in range(D)], -1)
    for how in ("each", "spread"):
        torch.testing.assert_close(means[how], means["random"], atol=0.1, rtol=0)  # about five standard errors


# what rows get


def test_each_row_has_the_posterior_of_its_kind(world: LinearGaussian) -> None:
    batch, model = world.sample(4), make(world, bend=0.3)
    encodings = model.encode_modalities(batch)
    draws, fresh = 4000, {}
    for names in ([*SIZES], ["b"], []):
        q = model.posterior(encodings.only(names))
        assert not len(q.rows)
        fresh[len(names)] = q
    joint, prior = encodings.joint, DiagonalNormal.unit(4, D, like=encodings.joint.loc)
    z = fresh[3].draw(draws)
    torch.testing.assert_close(fresh[3].log_prob(z), joint.log_prob(z["shared"]))
    torch.testing.assert_close(fresh[3].point()["shared"][0], joint.loc)
    z = fresh[1].draw(draws)
    torch.testing.assert_close(fresh[1].log_prob(z), encodings.experts["b"].log_prob(z["shared"]))
    z = fresh[0].draw(draws)
    torch.testing.assert_close(fresh[0].log_prob(z), prior.log_prob(z["shared"]))
    assert not fresh[0].point()["shared"].any()
    q = model.posterior(encodings.only(["a", "b"]))
    with pytest.raises(ValueError, match=r"4 of 4 rows.*known up to a constant"):
        q.log_prob(q.draw(1))


def test_an_exact_model_has_the_exact_posterior_of_every_subset(world: LinearGaussian) -> None:
    batch, K = world.sample(3), 500
    model = exact(world, **{"hmc.chains": K, "hmc.steps": 30, "hmc.adapt": 15, "hmc.leapfrog": 5})
    encodings = model.encode_modalities(batch)
    for size in (1, 2, 3):
        for names in combinations(SIZES, size):
            law = world.posterior(batch, names)
            z = model.posterior(encodings.only(names)).draw(K)["shared"]
            assert ((z.mean(0) - law.loc).abs() < 5 * law.scale / math.sqrt(K)).all(), names
            assert ((z.var(0) / law.scale**2 - 1).abs() < 5 * math.sqrt(2 / K)).all(), names


def test_every_network_runs_once_however_many_draws(world: LinearGaussian) -> None:
    batch = world.sample(7, observed=all_patterns(3))
    model = make(world, bend=0.3)
    calls = []
    for module in [*model.encoders.values(), model.joint_encoder, *model.flows.values()]:
        module.register_forward_hook(lambda module, *_: calls.append(module))
    model.encode(batch, 9)
    assert len(calls) == len(set(calls)) == 7
