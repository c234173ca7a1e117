"""Joint posteriors: the product on the linear-Gaussian reference, the subsets' weights, the contract of ``fuse``."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any, final

import pytest
import torch
from torch import Tensor

from mvcore.data.batch import Batch
from mvcore.distributions.diagonal import Diagonal, DiagonalLaplace, DiagonalNormal
from mvcore.distributions.encoded import Encoded
from mvcore.distributions.latents import Latents
from mvcore.distributions.mixture import Mixture
from mvcore.distributions.names import Family, ScaleMap
from mvcore.errors import ConfigError
from mvcore.posteriors.base import JointPosterior
from mvcore.posteriors.product import ProductOfExperts
from mvcore.posteriors.specs import PriorExpert, Subsets
from mvcore.testing.checks import all_patterns
from mvcore.testing.linear import LinearGaussian

NAMES = ("a", "b", "c")
SIZES = {"a": 4, "b": 5, "c": 3}
D = 2
PRIORS = pytest.mark.parametrize("prior_expert", ["none", "every", "full"])
SUBSETS = pytest.mark.parametrize("subsets", ["observed", "each", "all"])


@final
class Barycentre(JointPosterior):
    """The Wasserstein barycentre of the members: the means of their locations and of their scales."""

    def fuse(self, experts: Diagonal, S: Tensor) -> Diagonal:
        present = experts.log_scale.isfinite()
        scale = experts.log_scale.where(present, 0).exp() * present
        count = (S @ present.to(S).flatten(1)).clamp(min=1)
        loc, scale = (S @ experts.loc.flatten(1)) / count, (S @ scale.flatten(1)) / count
        log_scale = scale.where(scale > 0, 1).log()
        shape = experts.loc.shape[1:]
        return type(experts)(loc.unflatten(1, shape), log_scale.unflatten(1, shape))


RULES = pytest.mark.parametrize("rule", [ProductOfExperts, Barycentre])


def encoded(batch: Batch) -> dict[str, Encoded]:
    """Any experts, which depend on the observation alone."""
    out = {}
    for m in batch.names:
        x = batch.x[m]
        out[m] = Encoded(x[:, :D].clone().requires_grad_(), (0.3 * x[:, 1 : D + 1]).clone().requires_grad_())
    return out


def alone(density: Diagonal) -> Mixture:
    """A prior of one component ``(1, D)``."""
    return Mixture(density[None], torch.ones(1, 1).to(density.loc), torch.ones(1, 1, dtype=torch.bool))


def unit(family: type[Diagonal] = DiagonalNormal) -> Mixture:
    return alone(family.unit(1, D, like=torch.zeros(1, dtype=torch.float64)))


def several(count: int, family: type[Diagonal] = DiagonalNormal) -> Mixture:
    """A prior of several components whose weights are 1, 2, … in ratio."""
    generator = torch.Generator().manual_seed(5)
    loc = torch.randn(count, 1, D, dtype=torch.float64, generator=generator)
    weights = torch.arange(1, count + 1, dtype=torch.float64)[:, None]
    return Mixture(family(loc, 0.2 * loc), weights / weights.sum(), torch.ones(count, 1, dtype=torch.bool))


def by_row(q: Mixture, row: int) -> list[tuple[float, list[float], list[float]]]:
    """The components that a row has, as (weight, location, log-scale), sorted: their order means nothing."""
    kept = q.weights[:, row] > 0
    parts = zip(
        q.weights[kept, row].tolist(),
        q.components.loc[kept, row].tolist(),
        q.components.log_scale[kept, row].tolist(),
        strict=True,
    )
    return sorted((w, loc, s) for w, loc, s in parts)


@pytest.fixture
def world() -> LinearGaussian:
    return LinearGaussian(SIZES, D)


@pytest.fixture
def batch(world: LinearGaussian) -> Batch:
    """One row of every pattern: c, b, bc, a, ac, ab, abc."""
    return world.sample(7, observed=all_patterns(3))


def test_a_product_of_likelihoods_and_the_prior_is_the_exact_posterior_of_every_subset(
    world: LinearGaussian, batch: Batch
) -> None:
    encoders = world.encoders("likelihood")
    posterior = ProductOfExperts(NAMES, prior_expert="every")
    for size in range(4):
        for given in itertools.combinations(NAMES, size):
            view = batch.only(given)
            q = posterior({m: encoders[m](view.x[m]) for m in view.names}, view, unit())
            exact = world.posterior(batch, given)
            assert q.shape == (1, 7)
            torch.testing.assert_close(q.components.loc[0], exact.loc)
            torch.testing.assert_close(q.components.log_scale[0], exact.log_scale)


def test_a_product_by_hand() -> None:
    # experts N(1, 1), N(4, 1/2 precision 4): without the prior, precision 5 and mean (1 + 16)/5; with it 6 and 17/6
    batch = Batch.from_dense({"a": torch.zeros(1, 1), "b": torch.zeros(1, 1)})
    parts = {
        "a": Encoded(torch.tensor([[1.0]]), torch.tensor([[0.0]])),
        "b": Encoded(torch.tensor([[4.0]]), torch.tensor([[math.log(0.5)]])),
    }
    prior = alone(DiagonalNormal.unit(1, 1))
    for prior_expert, precision in [("none", 5), ("every", 6), ("full", 6)]:
        q = ProductOfExperts(("a", "b"), prior_expert=prior_expert)(parts, batch, prior)  # type: ignore[arg-type]
        assert float(q.components.loc) == pytest.approx(17 / precision)
        assert float(q.components.scale) == pytest.approx(precision**-0.5)


def test_a_product_counts_a_prior_of_any_location_and_scale() -> None:
    # prior N(2, 1/2): precision 4; expert N(1, 1): mean (1 + 8)/5
    batch = Batch.from_dense({"a": torch.zeros(1, 1)})
    prior = alone(DiagonalNormal(torch.tensor([[2.0]]), torch.tensor([[math.log(0.5)]])))
    parts = {"a": Encoded(torch.tensor([[1.0]]), torch.tensor([[0.0]]))}
    q = ProductOfExperts(("a",), prior_expert="every")(parts, batch, prior)
    assert float(q.components.loc) == pytest.approx(9 / 5)
    assert float(q.components.scale) == pytest.approx(5**-0.5)


@PRIORS
@SUBSETS
def test_a_row_has_equal_shares_of_the_subsets_of_what_it_has(
    subsets: Subsets, prior_expert: PriorExpert, batch: Batch
) -> None:
    q = ProductOfExperts(NAMES, subsets=subsets, prior_expert=prior_expert)(encoded(batch), batch, unit())
    for row, pattern in enumerate(batch.observed.tolist()):
        count = {"observed": 1, "each": sum(pattern), "all": 2 ** sum(pattern) - 1}[subsets]
        assert [w for w, _, _ in by_row(q, row)] == pytest.approx([1 / count] * count)
    assert torch.equal(q.exists, q.weights > 0)


@PRIORS
@SUBSETS
def test_the_components_of_a_row_are_the_products_of_its_subsets(
    subsets: Subsets, prior_expert: PriorExpert, batch: Batch
) -> None:
    experts = encoded(batch)
    q = ProductOfExperts(NAMES, subsets=subsets, prior_expert=prior_expert)(experts, batch, unit())
    position = {m: batch.column(m).cumsum(0) - 1 for m in NAMES}
    for row in range(7):
        have = [m for m in NAMES if bool(batch.column(m)[row])]
        chosen = {
            "observed": [tuple(have)],
            "each": [(m,) for m in have],
            "all": [s for k in range(1, len(have) + 1) for s in itertools.combinations(have, k)],
        }[subsets]
        expected = []
        for S in chosen:
            own = [(experts[m].loc[position[m][row]], experts[m].log_scale[position[m][row]]) for m in S]
            prior = float(prior_expert == "every" or (prior_expert == "full" and len(S) == 3))
            precision = sum((torch.exp(-2 * s) for _, s in own), start=torch.full((D,), prior, dtype=torch.float64))
            loc = sum(torch.exp(-2 * s) * m for m, s in own) / precision
            expected.append((1 / len(chosen), loc.tolist(), (-0.5 * precision.log()).tolist()))  # type: ignore[union-attr]
        for found, hand in zip(by_row(q, row), sorted(expected), strict=True):
            assert found[0] == pytest.approx(hand[0])
            assert found[1] == pytest.approx(hand[1])
            assert found[2] == pytest.approx(hand[2])


@RULES
@PRIORS
@SUBSETS
def test_a_partial_row_has_the_posterior_of_a_view_of_what_it_has(
    rule: type[JointPosterior], subsets: Subsets, prior_expert: PriorExpert, batch: Batch
) -> None:
    posterior, experts = rule(NAMES, subsets=subsets, prior_expert=prior_expert), encoded(batch)
    whole = posterior(experts, batch, unit())
    for row, pattern in enumerate(batch.observed.tolist()):
        names = [m for m, has in zip(NAMES, pattern, strict=True) if has]
        one = batch.select(torch.tensor([row])).only(names)
        own = posterior(encoded(one), one, unit())
        for found, hand in zip(by_row(whole, row), by_row(own, 0), strict=True):
            assert [found[0], *found[1], *found[2]] == pytest.approx([hand[0], *hand[1], *hand[2]])


def settings() -> list[tuple[type[JointPosterior], Subsets, PriorExpert, Family]]:
    kinds: list[Any] = list(itertools.product(["observed", "each", "all"], ["none", "every", "full"]))
    normal = [(rule, *kind, "normal") for rule in (ProductOfExperts, Barycentre) for kind in kinds]
    return [*normal, (ProductOfExperts, "each", "none", "laplace"), (Barycentre, "all", "none", "laplace")]


@pytest.mark.parametrize(("rule", "subsets", "prior_expert", "family"), settings())
@pytest.mark.parametrize("given", [["a"], ["a", "b"], []])
def test_a_row_with_nothing_has_the_prior(
    rule: type[JointPosterior],
    subsets: Subsets,
    prior_expert: PriorExpert,
    family: Family,
    given: list[str],
    batch: Batch,
) -> None:
    posterior = rule(NAMES, subsets=subsets, prior_expert=prior_expert, family=family)
    density = {"normal": DiagonalNormal, "laplace": DiagonalLaplace}[family](
        torch.tensor([[0.5, -1.0]], dtype=torch.float64), torch.tensor([[0.2, 0.7]], dtype=torch.float64)
    )
    prior = alone(density)
    view = batch.only(given)
    q = posterior(encoded(view), view, prior)
    assert type(q.components) is type(density)
    torch.testing.assert_close(q.weights.sum(0), torch.ones(7, dtype=torch.float64))
    empty = ~view.observed.any(1)
    assert bool(empty.any())
    for row in range(7):
        if empty[row]:
            ((weight, loc, log_scale),) = by_row(q, row)
            assert weight == 1
            assert loc == pytest.approx([0.5, -1.0])
            assert log_scale == pytest.approx([0.2, 0.7])
        else:  # and it does not reach the other rows
            one = view.select(torch.tensor([row]))
            for found, hand in zip(by_row(q, row), by_row(posterior(encoded(one), one, prior), 0), strict=True):
                assert [found[0], *found[1], *found[2]] == pytest.approx([hand[0], *hand[1], *hand[2]])
    assert q.components.loc.isfinite().all()
    assert q.components.log_scale.isfinite().all()
    draws = q.draw(2, "each")
    assert q.log_prob(draws).isfinite().all()


@pytest.mark.parametrize(("rule", "subsets", "prior_expert", "family"), settings())
def test_gradients_reach_every_expert_and_are_finite(
    rule: type[JointPosterior], subsets: Subsets, prior_expert: PriorExpert, family: Family, batch: Batch
) -> None:
    posterior, experts = rule(NAMES, subsets=subsets, prior_expert=prior_expert, family=family), encoded(batch)
    prior = unit({"normal": DiagonalNormal, "laplace": DiagonalLaplace}[family])
    q = posterior(experts, batch, prior)
    draws = q.draw(3, "each")
    (q.kl(prior).sum() + draws.mean(q.log_prob(draws)).sum() + draws.mean(draws["shared"].sum(-1)).sum()).backward()
    for m in NAMES:
        for leaf in (experts[m].loc, experts[m].log_scale):
            assert leaf.grad is not None
            assert leaf.grad.isfinite().all()
            assert leaf.grad.any(1).all()  # each observation shapes the posterior of its row


def test_an_absent_expert_gets_no_gradient_and_spoils_none() -> None:
    """``fuse`` itself, with the experts of a row that lacks the second: infinite scale, location 0."""
    loc = torch.tensor([[[1.0]], [[0.0]]], requires_grad=True)
    log_scale = torch.tensor([[[0.3]], [[math.inf]]], requires_grad=True)
    posterior = ProductOfExperts(("a", "b"), prior_expert="none")
    S = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    q = posterior.fuse(DiagonalNormal(loc, log_scale), S)
    assert q.loc[:2].flatten().tolist() == pytest.approx([1, 1])
    assert q.log_scale[:2].flatten().tolist() == pytest.approx([0.3, 0.3])
    assert q.loc.isfinite().all()  # the third subset has no member here: any finite value
    (q.loc.sum() + q.log_scale.sum()).backward()
    for leaf in (loc, log_scale):
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()
        assert leaf.grad[1].item() == 0


@pytest.mark.parametrize("family", ["normal", "laplace"])
def test_softmax_scales_have_mean_one(family: Family, batch: Batch) -> None:
    posterior = ProductOfExperts(NAMES, subsets="each", prior_expert="none", family=family, scale="softmax")
    experts = encoded(batch)
    q = posterior(experts, batch, unit({"normal": DiagonalNormal, "laplace": DiagonalLaplace}[family]))
    scale = q.components.scale.where(q.exists[..., None], 1)
    torch.testing.assert_close(scale.sum(-1), torch.full((3, 7), float(D), dtype=torch.float64))
    hand = D * experts["b"].log_scale.softmax(-1)
    torch.testing.assert_close(q.components.scale[1, batch.rows("b")], hand)


@pytest.mark.parametrize(
    ("subsets", "prior_expert"), [("observed", "none"), ("observed", "every"), ("all", "none"), ("each", "every")]
)
def test_a_product_of_laplace_experts_is_refused(subsets: Subsets, prior_expert: PriorExpert) -> None:
    with pytest.raises(ConfigError, match="a product of Laplace experts is not Laplace"):
        ProductOfExperts(NAMES, subsets=subsets, prior_expert=prior_expert, family="laplace")


@pytest.mark.parametrize("scale", ["exp", "softmax"])
@pytest.mark.parametrize("names", [("prior", "b", "c"), ("a", "b", "prior")])
@SUBSETS
def test_a_modality_may_be_called_prior(
    subsets: Subsets, names: tuple[str, ...], scale: ScaleMap, batch: Batch
) -> None:
    renamed = Batch(dict(zip(names, batch.x.values(), strict=True)), batch.observed)

    def build(own: tuple[str, ...], rows: Batch) -> Mixture:
        return ProductOfExperts(own, subsets=subsets, prior_expert="none", scale=scale)(encoded(rows), rows, unit())

    found, expected = build(names, renamed), build(NAMES, batch)
    assert torch.equal(found.components.loc, expected.components.loc)
    assert torch.equal(found.weights, expected.weights)


def test_a_rule_of_the_authors_own_fuses_every_subset_by_hand(batch: Batch) -> None:
    experts: Mapping[str, Encoded] = encoded(batch)
    q = Barycentre(NAMES, subsets="all")(experts, batch, unit())
    row = 2  # has b and c, as its second observation of b and its second of c
    assert batch.observed[row].tolist() == [False, True, True]
    parts = [(experts[m].loc[1], experts[m].log_scale[1].exp()) for m in ("b", "c")]
    both = ((parts[0][0] + parts[1][0]) / 2).tolist(), ((parts[0][1] + parts[1][1]) / 2).log().tolist()
    expected = sorted([(1 / 3, loc.tolist(), s.log().tolist()) for loc, s in parts] + [(1 / 3, *both)])
    for found, hand in zip(by_row(q, row), expected, strict=True):
        assert [found[0], *found[1], *found[2]] == pytest.approx([hand[0], *hand[1], *hand[2]])


@RULES
@SUBSETS
def test_a_batch_without_rows(rule: type[JointPosterior], subsets: Subsets, batch: Batch) -> None:
    nobody = batch.select(torch.zeros(0, dtype=torch.long))
    for prior_expert in ("none", "every", "full"):
        q = rule(NAMES, subsets=subsets, prior_expert=prior_expert)(encoded(nobody), nobody, unit())  # type: ignore[arg-type]
        assert q.draw(2)["shared"].shape[1:] == (0, D)
        assert q.mean().shape == (0, D)


@RULES
@SUBSETS
@pytest.mark.parametrize("names", [("a", "b"), ("c",), ()])
def test_a_row_that_a_view_leaves_with_nothing_has_every_component_of_the_prior(
    rule: type[JointPosterior], subsets: Subsets, names: tuple[str, ...], batch: Batch
) -> None:
    view, prior = batch.only(names), several(3)
    posterior = rule(NAMES, subsets=subsets, prior_expert="none")
    q, plain = posterior(encoded(view), view, prior), posterior(encoded(view), view, unit())
    z = torch.randn(4, 7, D, dtype=torch.float64)
    latents = Latents({"shared": z}, 7)
    nothing = ~view.observed.any(1)
    assert nothing.any()
    torch.testing.assert_close(q.log_prob(latents)[:, nothing], prior.log_prob(latents)[:, nothing])
    torch.testing.assert_close(q.log_prob(latents)[:, ~nothing], plain.log_prob(latents)[:, ~nothing])
    torch.testing.assert_close(q.weights.sum(0), torch.ones(7, dtype=torch.float64))
    for how in ("random", "each", "spread"):
        assert q.draw(5, how)["shared"].isfinite().all()  # type: ignore[arg-type]


def test_the_draws_of_a_row_with_nothing_are_those_of_the_prior(batch: Batch) -> None:
    prior, view = several(3), batch.only(())
    q = ProductOfExperts(NAMES, subsets="all", prior_expert="none")({}, view, prior)
    torch.manual_seed(0)
    drawn = q.draw(40_000)["shared"][:, 0]
    mean = prior.mean()[0]
    assert bool(((drawn.mean(0) - mean).abs() < 6 * drawn.std(0) / 200).all())
    assert (q.draw(2, "each").component[0].bincount() == 7).all()  # type: ignore[index]


@pytest.mark.parametrize("prior_expert", ["every", "full"])
def test_a_prior_of_several_components_is_no_expert(prior_expert: PriorExpert, batch: Batch) -> None:
    posterior = ProductOfExperts(NAMES, prior_expert=prior_expert)
    with pytest.raises(ConfigError, match=f"a prior of 2 components can't be an expert.*'none', got '{prior_expert}'"):
        posterior(encoded(batch), batch, several(2))


@SUBSETS
def test_a_batch_without_rows_or_names_and_a_prior_of_several_components(subsets: Subsets, batch: Batch) -> None:
    nobody = batch.select(torch.zeros(0, dtype=torch.long))
    for view in (nobody, nobody.only(())):
        q = ProductOfExperts(NAMES, subsets=subsets, prior_expert="none")(encoded(view), view, several(3))
        assert q.draw(2)["shared"].shape[1:] == (0, D)
