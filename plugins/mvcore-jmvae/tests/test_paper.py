"""The laws of JMVAE (Suzuki et al., 2016): on linear maps, whose posteriors are known, with arbitrary encoders."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from mvcore.distributions import DiagonalNormal
from mvcore.errors import DataError
from mvcore.models import Model
from mvcore.testing import LinearGaussian, all_patterns, sigma_points, small

SIZES = {"a": 5, "b": 6, "c": 4}
D = 2
PARTIAL = all_patterns(3)[:-1].repeat(2, 1)


@pytest.fixture
def world() -> LinearGaussian:
    return LinearGaussian(SIZES, D)


def make(world: LinearGaussian, **fields: object) -> Model:
    """A JMVAE with exact decoders and random small encoders, in float64."""
    model = small("jmvae", world.schema, **{"joint_hidden": [8], "samples": 2 * D, **fields})
    model.decoders.update(world.decoders())
    return model


def exact(world: LinearGaussian, **fields: object) -> Model:
    """The same with p(z | x_m) and p(z | X) for encoders."""
    model = make(world, **fields)
    model.encoders.update(world.encoders("posterior"))
    model.joint_encoder = world.joint_encoder()
    return model


def normal(q: DiagonalNormal) -> Normal:
    return Normal(q.loc, q.scale)


@pytest.mark.parametrize("alpha", [0.1, 1.0])
def test_exact_encoders_leave_the_likelihood_and_the_divergences_of_the_posteriors(
    world: LinearGaussian, alpha: float
) -> None:
    batch, model = world.sample(8), exact(world, alpha=alpha)
    law = -world.log_likelihood(batch)
    for m in SIZES:
        law = law + alpha * kl_divergence(normal(world.posterior(batch)), normal(world.posterior(batch, [m]))).sum(-1)
    with sigma_points():
        torch.testing.assert_close(model(batch).loss, law.mean())


@pytest.mark.parametrize(("epoch", "share"), [(0.0, 0.0), (2.5, 0.25), (10.0, 1.0), (99.0, 1.0)])
def test_a_complete_row_follows_the_formula_for_any_encoders_and_all_divergences_warm_up(
    world: LinearGaussian, epoch: float, share: float
) -> None:
    batch, model = world.sample(8), make(world, alpha=0.3, beta=2.5, warmup=10.0)
    encodings = model.encode_modalities(batch)
    q = encodings.joint
    prior = kl_divergence(normal(q), Normal(0.0, 1.0)).sum(-1)
    surrogates = sum(kl_divergence(normal(q), normal(encodings.experts[m])).sum(-1) for m in SIZES)
    expected = -world.log_likelihood(batch) + q.kl(world.posterior(batch)) - prior  # −E log p(X|z)
    law = expected + share * (2.5 * prior + 0.3 * surrogates)
    with sigma_points():
        torch.testing.assert_close(model(batch, epoch=epoch).loss, law.mean())


@pytest.mark.parametrize("subsets", ["exact", "product"])
def test_a_partial_row_is_the_likelihood_and_the_divergence_of_its_product(world: LinearGaussian, subsets: str) -> None:
    batch, model = world.sample(12, observed=PARTIAL), make(world, subsets=subsets)
    q = model.posterior(model.encode_modalities(batch)).shared.components[0]
    law = -world.log_likelihood(batch) + q.kl(world.posterior(batch))
    with sigma_points():
        torch.testing.assert_close(model(batch).loss, law.mean())


def test_exact_surrogates_give_the_exact_posterior_of_every_subset(world: LinearGaussian) -> None:
    batch, model = world.sample(6), exact(world)
    encodings = model.encode_modalities(batch)
    for size in range(4):
        for given in combinations(SIZES, size):
            q = model.posterior(encodings.only(given)).shared.components[0]
            truth = world.posterior(batch, given)
            torch.testing.assert_close(q.loc, truth.loc)
            torch.testing.assert_close(q.scale, truth.scale)


def test_the_plain_product_counts_the_prior_once_for_each_surrogate(world: LinearGaussian) -> None:
    batch, model = world.sample(6), exact(world, subsets="product")
    q = model.posterior(model.encode_modalities(batch).only(["a", "c"])).shared.components[0]
    precision = world.posterior(batch, ["a", "c"]).scale ** -2 + 1
    torch.testing.assert_close(q.scale**-2, precision)


def test_wide_surrogates_keep_a_positive_precision(world: LinearGaussian) -> None:
    """λ = (.3, .2): .5 − 1 is negative, so the precision is min(1, .2)."""

    class Wide(nn.Module):
        def __init__(self, precision: float) -> None:
            super().__init__()
            self.log_scale = nn.Parameter(-0.5 * torch.tensor(precision).log())

        def forward(self, x: Tensor, mask: Tensor | None = None, context: Tensor | None = None) -> object:
            from mvcore.distributions import Encoded

            ones = x.new_ones(len(x), D)
            return Encoded(ones, self.log_scale * ones)

    model, batch = make(world), world.sample(3)
    model.encoders.update({"a": Wide(0.3).double(), "b": Wide(0.2).double()})
    q = model.posterior(model.encode_modalities(batch).only(["a", "b"])).shared.components[0]
    torch.testing.assert_close(q.scale**-2, torch.full((3, D), 0.2, dtype=torch.float64))
    torch.testing.assert_close(q.loc, torch.full((3, D), 0.5 / 0.2, dtype=torch.float64))


@pytest.mark.parametrize("names", [("a", "b", "c"), ("a", "c"), ("b",)])
def test_with_exact_encoders_one_draw_is_the_exact_likelihood(world: LinearGaussian, names: tuple[str, ...]) -> None:
    batch, model = world.sample(6).only(names), exact(world)
    torch.testing.assert_close(model.log_likelihood(batch, 1), world.log_likelihood(batch))


def test_a_surrogate_learns_from_the_joint_encoder_and_not_the_other_way_at_alpha_0(world: LinearGaussian) -> None:
    model = make(world, alpha=0.0)
    model(world.sample(8)).loss.backward()
    assert not any(p.grad is not None and p.grad.any() for p in model.encoders.parameters())


def test_partial_rows_are_refused_where_that_was_asked_for(world: LinearGaussian) -> None:
    model = make(world, partial="refuse")
    with pytest.raises(DataError, match=r"10 of 12 rows lack a modality.*partial='refuse'.*partial='elbo'"):
        model(world.sample(12, observed=torch.cat([PARTIAL[:10], torch.ones(2, 3, dtype=torch.bool)])))
