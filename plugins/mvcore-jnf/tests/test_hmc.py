"""The sampler: products of flows against closed forms and grids, and how it behaves at its limits."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import mvcore
from mvcore.testing import LinearGaussian, all_patterns
from mvcore_jnf import HMCConfig
from mvcore_jnf.hmc import sample

SIZES = {"a": 3, "b": 4, "c": 3, "d": 3}
PARTS = {"input": "none", "target": "none", "encoder.hidden": [7], "decoder.hidden": [7]}


def make(world: LinearGaussian, bend: float, **fields: object) -> mvcore.MultimodalVAE:
    torch.manual_seed(3)
    parts = {f"modalities.{m}.{part}": v for m in SIZES for part, v in PARTS.items()}
    model = mvcore.create("jnf", world.schema, latent_dim=2, **{"flow.hidden": [12], **parts, **fields}).double()
    with torch.no_grad():
        for flow in model.flows.values():
            for network in flow.networks:
                network[-1].weight[2:].add_(bend * torch.randn(2, 12))  # curves it, but leaves its tails thin
        for m in SIZES:  # experts that are narrower than the prior, of several scales
            model.encoders[m].head.linear.bias[2:] -= torch.tensor([0.4, 0.9])
    return model


def independent(K: int) -> dict[str, object]:
    """A chain for each draw, so that errors are those of independent draws."""
    return {"hmc.chains": K, "hmc.steps": 40, "hmc.adapt": 20, "hmc.leapfrog": 5}


def test_three_normals_give_the_moments_of_their_product_over_the_prior_squared() -> None:
    world, K = LinearGaussian(SIZES, 2), 600
    batch = world.sample(4).only(["a", "b", "d"])
    model = make(world, 0.0, **independent(K))
    encodings = model.encode_modalities(batch)
    q = model.posterior(encodings)
    z = q.draw(K)["shared"]
    bases = [encodings.experts[m].base for m in ("a", "b", "d")]
    precision = sum(b.scale**-2 for b in bases) - 2
    mean = sum(b.scale**-2 * b.loc for b in bases) / precision
    assert ((z.mean(0) - mean).abs() * precision.sqrt() < 5 / math.sqrt(K)).all()
    assert ((z.var(0) * precision - 1).abs() < 5 * math.sqrt(2 / K)).all()
    assert q.chains is not None
    assert ((q.chains.acceptance - 0.8).abs() < 0.1).all()
    assert not q.chains.divergent.any()


def test_two_bent_flows_give_the_moments_of_a_grid_whatever_else_is_in_the_batch() -> None:
    world, K = LinearGaussian(SIZES, 2), 600
    observed = torch.tensor([[True, True, False, False], [False, True, True, True], [True, True, True, True]])
    batch = world.sample(3, observed=observed)
    model = make(world, 1.2, **independent(K))
    encodings = model.encode_modalities(batch)
    q = model.posterior(encodings)
    z = q.draw(K)["shared"].detach()
    assert q.rows.tolist() == [0, 1]
    line = torch.linspace(-8, 8, 641, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)
    for row, names in enumerate((["a", "b"], ["b", "c", "d"])):
        one = batch.select(torch.tensor([row]))
        flows = [model.flows[m](model.encoders[m](one.x[m])) for m in names]
        log_p = sum(f.log_prob(grid[:, None])[:, 0] for f in flows) + (len(names) - 1) * 0.5 * grid.square().sum(-1)
        mass = log_p.detach().softmax(0)
        assert mass[grid.abs().amax(-1) > 7.9].sum() < 1e-12  # it is a density, and inside the grid
        for f in (
            lambda v: v[..., 0],
            lambda v: v[..., 1],
            lambda v: v[..., 0] ** 2,
            lambda v: torch.sin(5 * v[..., 1]),
        ):
            values = f(z[:, row])
            error = float(values.std()) / math.sqrt(K)
            assert abs(float(values.mean()) - float((mass * f(grid)).sum())) < 5 * error, names
        moments = (mass[:, None] * grid).sum(0)
        spread = (mass[:, None] * (grid - moments) ** 2).sum(0).sqrt()
        skew = (mass[:, None] * ((grid - moments) / spread) ** 3).sum(0)
        assert skew.abs().max() > 0.1  # the target is not normal


def test_a_row_alone_gets_the_draws_it_gets_in_a_batch_in_the_mean() -> None:
    world, K = LinearGaussian(SIZES, 2), 500
    batch = world.sample(15, observed=all_patterns(4))
    model = make(world, 1.2, **independent(K))
    row = 6  # has b, c and d
    alone = model.encode(batch.select(torch.tensor([row])), K)["shared"][:, 0]
    among = model.encode(batch, K, generator=torch.Generator().manual_seed(5))["shared"][:, row]
    error = ((alone.var(0) + among.var(0)) / K).sqrt()
    assert ((alone.mean(0) - among.mean(0)).abs() < 5 * error).all()


def test_further_draws_of_a_chain_have_the_same_distribution() -> None:
    settings = HMCConfig(chains=50, steps=40, adapt=20, thin=3)
    scale = torch.tensor([[1.0, 1.0]], dtype=torch.float64)
    centre = torch.tensor([2.0, -1.0], dtype=torch.float64)
    torch.manual_seed(0)
    chains = sample(lambda z: -2 * (z - centre).square().sum(-1), torch.zeros(50, 1, 2).double(), scale, 2020, settings)
    assert chains.draws.shape == (2020, 1, 2)
    torch.testing.assert_close(chains.draws.mean(0)[0], centre, atol=0.06, rtol=0)
    torch.testing.assert_close(chains.draws.var(0)[0], torch.full((2,), 0.25).double(), atol=0.05, rtol=0)


def test_proposals_outside_the_support_are_rejected_and_counted() -> None:
    def uniform(z: Tensor) -> Tensor:
        inside = z.abs().amax(-1) < 1
        return (0.0 * z).sum(-1).where(inside, torch.nan)

    torch.manual_seed(0)
    settings = HMCConfig(chains=3000, steps=60, adapt=30, leapfrog=4)
    chains = sample(uniform, torch.zeros(3000, 1, 2).double(), torch.ones(1, 2).double(), 3000, settings)
    assert chains.draws.isfinite().all()
    assert chains.draws.abs().max() < 1
    torch.testing.assert_close(chains.draws.var(0)[0], torch.full((2,), 1 / 3).double(), atol=0.04, rtol=0)
    torch.testing.assert_close(chains.draws.mean(0)[0], torch.zeros(2).double(), atol=0.06, rtol=0)
    assert 0 < float(chains.divergent) < 1


@pytest.mark.parametrize("start", [1e-3, 1.0])
def test_step_sizes_adapt_to_scales_a_hundred_times_apart_from_any_start(start: float) -> None:
    width = torch.tensor([0.1, 10.0], dtype=torch.float64)
    settings = HMCConfig(chains=64, steps=150, adapt=100, step_size=start)
    torch.manual_seed(0)
    zeros = torch.zeros(64, 2, 3).double()
    chains = sample(
        lambda z: -0.5 * (z / width[:, None]).square().sum(-1), zeros, torch.ones(2, 3).double(), 64, settings
    )
    assert ((chains.acceptance - 0.8).abs() < 0.1).all()
    ratio = float(chains.step_size[1] / chains.step_size[0])
    assert 60 < ratio < 170


def test_product_of_flows_wider_than_the_prior_stays_within_reach() -> None:
    world, K = LinearGaussian(SIZES, 2), 200
    batch = world.sample(3).only(["a", "b", "d"])
    model = make(world, 0.0, **independent(K))
    with torch.no_grad():
        for m in SIZES:
            model.encoders[m].head.linear.bias[2:] += 2.0
    q = model.posterior(model.encode_modalities(batch))
    norms = q.draw(K)["shared"].norm(dim=-1)
    assert norms.max() <= math.sqrt(2) + 5 + 1e-4
    assert norms.median() > 4  # where a product that grows without bound is
    assert q.chains is not None
    assert (q.chains.divergent > 0.01).all()
