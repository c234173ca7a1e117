"""IWAE and DReG: the values on linear maps, the order of the bounds, and which gradients are unbiased."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mvcore.data.batch import Batch
from mvcore.data.schema import Schema
from mvcore.distributions.encoded import Encoded
from mvcore.distributions.latents import Latents
from mvcore.likelihoods.base import LikelihoodDecoder
from mvcore.likelihoods.real import NormalLikelihood
from mvcore.losses.importance import IWAE, DReG, bound
from mvcore.losses.passes import Pass
from mvcore.losses.specs import Bound
from mvcore.models.multimodal import MultimodalVAE
from mvcore.nn.mlp import MLPDecoder
from mvcore.posteriors.product import ProductOfExperts
from mvcore.testing.checks import all_patterns
from mvcore.testing.linear import LinearGaussian
from mvcore.testing.noise import fixed_noise

Compose = Callable[..., MultimodalVAE]
BOUNDS = pytest.mark.parametrize("kind", ["looser", "tight"])


@pytest.fixture
def batch(world: LinearGaussian) -> Batch:
    return world.sample(14, observed=all_patterns(3).repeat(2, 1))


@BOUNDS
@pytest.mark.parametrize("K", [1, 3, 50])
def test_with_the_exact_posterior_the_bound_is_the_likelihood_at_any_k(
    K: int, kind: Bound, world: LinearGaussian, batch: Batch, compose: Compose
) -> None:
    for loss in (IWAE(samples=K, bound=kind), DReG(samples=K, bound=kind)):
        model = compose(world, loss, experts="likelihood", prior_expert="every")
        for row in range(len(batch)):  # no noise, so every row alone
            one = batch.select(torch.tensor([row]))
            torch.testing.assert_close(model(one).loss, -world.log_likelihood(one)[0])


@pytest.mark.parametrize("beta", [1.0, 2.5])
@pytest.mark.parametrize("subsets", ["each", "all"])
def test_at_k_1_the_loss_is_the_likelihood_and_the_divergence_of_the_mixture_from_the_posterior(
    subsets: str, beta: float, world: LinearGaussian, batch: Batch, compose: Compose
) -> None:
    model = compose(world, IWAE(samples=1, beta=beta), subsets=subsets)
    p = Pass(model, batch)
    loss = model.loss(p).loss
    # the law holds for every draw: log p(x, z) - log q(z) = log p(x) + log p(z|x) - log q(z)
    drawn = p.draws(1, "each")
    log_q = p.posterior.log_prob(drawn)
    rows = drawn.row_index(torch.device("cpu"))
    exact = world.posterior(batch)[rows].log_prob(drawn["shared"])
    prior = p.prior.log_prob(drawn)
    law = -world.log_likelihood(batch) + drawn.mean(log_q - exact + (beta - 1) * (log_q - prior))
    torch.testing.assert_close(loss, law.mean())


def test_with_many_draws_the_looser_bound_of_a_mixture_stays_away_from_the_likelihood_and_the_tight_one_reaches_it(
    world: LinearGaussian, compose: Compose
) -> None:
    K = 20_000
    batch = world.sample(7, observed=all_patterns(3))
    model = compose(world, experts="posterior", subsets="each")
    p = Pass(model, batch)
    # -log p(x_O) - (1/|O|) Σ_m log E_post[q_m / q], the ratio being at most |O|
    q = p.posterior.shared
    z = world.posterior(batch).rsample(K)
    log_q = q.log_prob(Latents({"shared": z}, len(batch)))
    ratios = (q.components[:, None].log_prob(z) - log_q).exp()  # (C, K, B)
    gap = (q.weights * ratios.mean(1).log()).sum(0).detach()
    exact = world.log_likelihood(batch)
    drawn = p.draws(K, "each")
    log_w = sum(p.reconstruction(drawn).values()) + p.prior.log_prob(drawn) - p.posterior.log_prob(drawn)
    looser, tight = bound(log_w, drawn, "looser").detach(), bound(log_w, drawn, "tight").detach()
    # the weights are at most a few times p(x), so log p̂ has a standard error of about 1 / √K
    torch.testing.assert_close(tight, exact, atol=4 / math.sqrt(K), rtol=0)
    torch.testing.assert_close(looser, exact + gap, atol=4 / math.sqrt(K), rtol=0)
    single = batch.observed.sum(1) == 1
    torch.testing.assert_close(gap[single], torch.zeros(3, dtype=torch.float64))
    assert float(gap.min()) < -0.1  # so that the two limits can be told apart


@BOUNDS
def test_more_draws_never_loosen_the_bound(kind: Bound, world: LinearGaussian, batch: Batch, compose: Compose) -> None:
    p = Pass(compose(world, subsets="all"), batch)
    drawn = p.draws(8, "each")
    log_w = IWAE(samples=1).log_weights(p, drawn, p.posterior)
    values = []
    for K in (1, 2, 4, 8):  # the same eight draws, in groups of K: Jensen's inequality holds for each
        groups = [bound(log_w[k : k + K], drawn, kind) for k in range(0, 8, K)]
        values.append(torch.stack(groups).mean(0))
    for smaller, larger in itertools.pairwise(values):
        assert (larger >= smaller - 1e-12).all()
    assert (values[-1] > values[0] + 1e-3).all()
    assert (bound(log_w, drawn, "tight") >= bound(log_w, drawn, "looser") - 1e-12).all()


def test_the_bounds_by_hand() -> None:
    # one row, two components of shares ¼ and ¾, two draws each; weights 1, 3 and 2, 6
    log_w = torch.tensor([[1.0, 2.0], [3.0, 6.0]]).log()
    drawn = Latents(
        {"shared": torch.zeros(2, 2, 1)}, 1, rows=torch.tensor([0, 0]), log_weight=torch.tensor([0.25, 0.75]).log()
    )
    assert float(bound(log_w, drawn, "looser")) == pytest.approx(0.25 * math.log(2) + 0.75 * math.log(4))
    assert float(bound(log_w, drawn, "tight")) == pytest.approx(math.log(0.25 * 2 + 0.75 * 4))


@BOUNDS
@pytest.mark.parametrize("subsets", ["observed", "each", "all"])
def test_dreg_has_iwaes_value_and_iwaes_gradient_of_the_decoders(
    subsets: str, kind: Bound, world: LinearGaussian, batch: Batch, compose: Compose
) -> None:
    model = compose(world, subsets=subsets)
    decoders = list(model.decoders.parameters())
    found = {}
    for loss in (IWAE(samples=4, bound=kind, beta=1.3), DReG(samples=4, bound=kind, beta=1.3)):
        model.loss = loss
        with fixed_noise():
            output = model(batch)
        found[type(loss)] = output.loss.detach(), torch.autograd.grad(output.loss, decoders)
        torch.testing.assert_close(output.terms["bound"], output.loss.detach())
    torch.testing.assert_close(found[DReG], found[IWAE])


@BOUNDS
def test_dreg_works_without_gradients(kind: Bound, world: LinearGaussian, batch: Batch, compose: Compose) -> None:
    model = compose(world, DReG(samples=4, bound=kind), subsets="each")
    with fixed_noise():
        value = model(batch).loss.detach()
        with torch.no_grad():
            torch.testing.assert_close(model(batch).loss, value)
        for parameter in model.encoders.parameters():
            parameter.requires_grad_(False)
        model(batch).loss.backward()  # the draws need no gradient, the decoders do


def test_dregs_weights_leave_another_loss_of_the_same_pass_alone(
    world: LinearGaussian, batch: Batch, compose: Compose
) -> None:
    model = compose(world, subsets="each")
    parameters = list(model.encoders.parameters())
    with fixed_noise():
        alone = torch.autograd.grad(IWAE(samples=4)(Pass(model, batch)).loss, parameters)
        shared = Pass(model, batch)
        DReG(samples=4)(shared)
        together = torch.autograd.grad(IWAE(samples=4)(shared).loss, parameters)
    torch.testing.assert_close(together, alone)


class Table(nn.Module):
    """An encoder whose output for each row is a leaf of its own, so that a batch gives independent gradients."""

    def __init__(self, rows: int, loc: list[float], log_scale: list[float]) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.tensor([loc], dtype=torch.float64).repeat(rows, 1))
        self.log_scale = nn.Parameter(torch.tensor([log_scale], dtype=torch.float64).repeat(rows, 1))

    def forward(self, x: Tensor, mask: Tensor | None = None, context: Tensor | None = None) -> Encoded:
        return Encoded(self.loc[: len(x)], self.log_scale[: len(x)])


ROWS = 20_000


def gradients(loss: nn.Module, experts: dict[str, tuple[float, float]]) -> Tensor:
    """Independent gradients ``(ROWS, P)`` of the loss of one row in the experts' locations and log-scales."""
    torch.manual_seed(7)
    schema = Schema.from_shapes({m: (2,) for m in experts})
    mixing = torch.tensor([[1.0], [0.5]], dtype=torch.float64)
    decoders = {}
    for m in experts:
        network = MLPDecoder(1, (2,), hidden=()).double()
        network.body[0].weight.data, network.body[0].bias.data = mixing, torch.zeros(2, dtype=torch.float64)
        decoders[m] = LikelihoodDecoder(network, NormalLikelihood((2,)))
    model = MultimodalVAE(
        schema,
        latent_dim=1,
        encoders={m: Table(ROWS, [loc], [log_scale]) for m, (loc, log_scale) in experts.items()},
        decoders=decoders,
        posterior=ProductOfExperts(schema.names, subsets="each", prior_expert="none"),
        loss=loss,
    ).double()
    x = {m: torch.tensor([[1.0, -0.5]], dtype=torch.float64).repeat(ROWS, 1) for m in experts}
    model(Batch.from_dense(x)).loss.backward()
    return ROWS * torch.cat([p.grad for p in model.encoders.parameters() if p.grad is not None], 1)


def deviations(dreg: nn.Module, iwae: nn.Module, experts: dict[str, tuple[float, float]]) -> Tensor:
    """Differences of the mean gradients, in standard errors."""
    biased, reference = gradients(dreg, experts), gradients(iwae, experts)
    error = ((biased.var(0) + reference.var(0)) / ROWS).sqrt()
    return (biased.mean(0) - reference.mean(0)).abs() / error


ONE = {"a": (1.0, -0.5)}
APART = {"a": (1.0, -0.5), "b": (-0.8, 0.2)}
ALIKE = {"a": (0.6, -0.3), "b": (0.6, -0.3)}


@BOUNDS
@pytest.mark.parametrize("K", [1, 5])
def test_dregs_gradient_is_unbiased_for_one_component(K: int, kind: Bound) -> None:
    assert (deviations(DReG(samples=K, bound=kind), IWAE(samples=K, bound=kind), ONE) < 4.5).all()


def test_dregs_gradient_is_unbiased_for_a_mixture_at_k_1() -> None:
    assert (deviations(DReG(samples=1), IWAE(samples=1), APART) < 4.5).all()


def test_dregs_gradient_is_unbiased_for_a_mixture_whose_components_coincide() -> None:
    # of the sum over the components: a coinciding component may stand for the other
    biased, reference = gradients(DReG(samples=4), ALIKE), gradients(IWAE(samples=4), ALIKE)
    loc, log_scale = [0, 2], [1, 3]
    for columns in (loc, log_scale):
        difference = biased[:, columns].sum(1), reference[:, columns].sum(1)
        error = math.sqrt(float(difference[0].var() + difference[1].var()) / ROWS)
        assert abs(float(difference[0].mean() - difference[1].mean())) < 4.5 * error


def test_dregs_gradient_is_biased_for_a_mixture_of_distinct_components_at_k_above_1() -> None:
    assert deviations(DReG(samples=5), IWAE(samples=5), APART).max() > 6


def test_dregs_gradient_of_the_tight_bound_of_a_mixture_is_biased_at_k_1_too() -> None:
    # the weights are normalised over the components then, each of which draws from its own density, not the mixture's
    assert deviations(DReG(samples=1, bound="tight"), IWAE(samples=1, bound="tight"), APART).max() > 4.5


def test_dreg_has_less_noise_than_iwae() -> None:
    less, more = gradients(DReG(samples=5), ONE).var(0), gradients(IWAE(samples=5), ONE).var(0)
    assert (less < more).all()
