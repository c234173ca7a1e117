"""A prior of several components, wherever the core meets one: on linear maps, whose likelihoods are then mixtures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, final

import pytest
import torch
from attrs import frozen
from torch import Tensor, nn

import mvcore
from mvcore.data.batch import Batch
from mvcore.distributions.diagonal import Diagonal, DiagonalNormal
from mvcore.distributions.mixture import Mixture
from mvcore.errors import ConfigError, NotApplicableError
from mvcore.losses.elbo import ELBO
from mvcore.losses.importance import IWAE, DReG
from mvcore.models.multimodal import MultimodalVAE
from mvcore.models.specs import MultimodalVAEConfig
from mvcore.plugins.spec import LossConfig, PriorConfig
from mvcore.posteriors.product import ProductOfExperts
from mvcore.posteriors.specs import ProductConfig, Subsets
from mvcore.priors.base import Prior
from mvcore.testing.checks import (
    all_patterns,
    check_conditions_on_every_subset,
    check_leaves_state_alone,
    check_neighbours,
)
from mvcore.testing.linear import LinearGaussian

D, SIZES = 2, {"a": 4, "b": 5}
MEANS = torch.tensor([[2.0, 0.0], [-1.0, 1.5], [0.0, -2.0]], dtype=torch.float64)
WEIGHTS = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
SUBSETS = pytest.mark.parametrize("subsets", ["observed", "each", "all"])


@final
class Three(Prior):
    """Three normals of scale 1."""

    def __init__(self) -> None:
        super().__init__()
        self.loc = nn.Parameter(MEANS.clone())

    def forward(self) -> Mixture:
        loc = self.loc[:, None]
        return Mixture(DiagonalNormal(loc, torch.zeros_like(loc)), WEIGHTS[:, None], torch.ones(3, 1, dtype=torch.bool))

    def private(self, name: str) -> Diagonal:
        raise NotImplementedError


@pytest.fixture
def world() -> LinearGaussian:
    return LinearGaussian(SIZES, D)


def make(world: LinearGaussian, subsets: Subsets = "each", loss: nn.Module | None = None) -> MultimodalVAE:
    """Exact decoders and encoders of the unimodal posteriors under a standard prior, which fit this one badly."""
    return MultimodalVAE(
        world.schema,
        latent_dim=D,
        encoders=world.encoders("posterior"),
        decoders=world.decoders(),
        posterior=ProductOfExperts(world.schema.names, subsets=subsets, prior_expert="none"),
        prior=Three(),
        loss=loss or IWAE(samples=2),
    ).double()


def exact(world: LinearGaussian, batch: Batch) -> Tensor:
    """Log p(x_O): z = μ_c + a standard normal, so that x − W μ_c has the likelihood of the standard prior."""
    parts = []
    for mean, weight in zip(MEANS, WEIGHTS, strict=True):
        moved = {m: x - world.W[m] @ mean for m, x in batch.x.items()}
        parts.append(weight.log() + world.log_likelihood(Batch(moved, batch.observed)))
    return torch.stack(parts).logsumexp(0)


@SUBSETS
def test_the_mean_of_the_estimated_over_the_exact_likelihood_is_one(world: LinearGaussian, subsets: Subsets) -> None:
    rows = world.sample(3, observed=all_patterns(2))
    many = rows.select(torch.arange(3).repeat(4000))
    ratio = (make(world, subsets).log_likelihood(many, 20).view(4000, 3) - exact(world, rows)).exp()
    error = ratio.std(0) / math.sqrt(4000)
    assert bool(((ratio.mean(0) - 1).abs() < 6 * error).all())
    assert float(error.max()) < 0.1


def test_with_many_draws_the_tight_bound_tends_to_the_exact_likelihood(world: LinearGaussian) -> None:
    rows = world.sample(3, observed=all_patterns(2))
    model = make(world, loss=IWAE(samples=100_000, bound="tight"))
    with torch.no_grad():
        assert float(model(rows).loss) == pytest.approx(-float(exact(world, rows).mean()), abs=0.02)


def test_an_elbo_with_drawn_divergences_is_the_mean_of_the_bounds_of_one_draw(world: LinearGaussian) -> None:
    """K = 1 of IWAE and ELBO are the same number, term by term, for the same draws."""
    rows = world.sample(6, observed=all_patterns(2).repeat(2, 1))
    values = []
    for loss in (ELBO(kl="monte_carlo", stratified=True), IWAE(samples=1), DReG(samples=1)):
        torch.manual_seed(0)
        values.append(make(world, loss=loss)(rows).loss.detach())
    torch.testing.assert_close(values[0], values[1])
    torch.testing.assert_close(values[1], values[2])


@SUBSETS
def test_checks_of_every_model(world: LinearGaussian, subsets: Subsets) -> None:
    batch, model = world.sample(6, observed=all_patterns(2).repeat(2, 1)), make(world, subsets)
    check_neighbours(model, batch)
    check_conditions_on_every_subset(model, batch)
    check_leaves_state_alone(model, batch)


def test_generation_and_rows_with_nothing_draw_from_all_of_it(world: LinearGaussian) -> None:
    model = make(world)
    nothing = world.sample(1).only([])
    for z in (model.prior().draw(40_000)["shared"][:, 0].detach(), model.encode(nothing, 40_000)["shared"][:, 0]):
        error = 6 * z.std(0) / 200
        assert bool(((z.mean(0) - WEIGHTS @ MEANS).abs() < error).all())
        variance = 1 + WEIGHTS @ MEANS.square() - (WEIGHTS @ MEANS).square()
        torch.testing.assert_close(z.var(0), variance, rtol=0.05, atol=0)
    torch.testing.assert_close(model.embed(nothing)[0], WEIGHTS @ MEANS)
    assert model.generate(5)["a"].shape == (5, 4)


def test_its_divergence_in_closed_form_is_refused(world: LinearGaussian) -> None:
    with pytest.raises(NotApplicableError, match="A mixture of 3 components has no divergence in closed form"):
        make(world, loss=ELBO())(world.sample(3))


# configs


@frozen(kw_only=True)
class ThreeConfig(PriorConfig):
    @property
    def is_mixture(self) -> bool:
        return True


@frozen(kw_only=True)
class OwnLossConfig(LossConfig):
    """One that says nothing of priors."""


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, r"can't be an expert of a product; set posterior.prior_expert='none', got 'every'"),
        ({"posterior": ProductConfig(prior_expert="none")}, r"set the loss to 'iwae', or to 'elbo' with kl='monte_"),
        ({"posterior": ProductConfig(prior_expert="none"), "loss": OwnLossConfig()}, r"does not have; set the loss to"),
    ],
)
def test_a_config_that_can_not_train_under_it_is_refused(fields: Mapping[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        MultimodalVAEConfig(prior=ThreeConfig(), **fields)


@pytest.mark.parametrize("loss", [{"use": "iwae"}, {"use": "dreg"}, {"use": "elbo", "kl": "monte_carlo"}])
def test_a_config_that_can_train_under_it_is_taken(loss: dict[str, str]) -> None:
    built = mvcore.config.structure("loss", loss)
    MultimodalVAEConfig(prior=ThreeConfig(), posterior=ProductConfig(prior_expert="none"), loss=built)


def test_an_expert_of_several_components_is_refused_by_hand(world: LinearGaussian) -> None:
    model, batch = make(world), world.sample(2)
    model.joint_posterior.prior_expert = "every"
    with pytest.raises(ConfigError, match="a prior of 3 components can't be an expert"):
        model(batch)
