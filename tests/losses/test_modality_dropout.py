"""Training on random subsets: the loss is the bound of all that a row has under the posterior of a part of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mvcore.data.batch import Batch
from mvcore.data.missing import kept_at_random
from mvcore.distributions.diagonal import DiagonalNormal
from mvcore.losses.elbo import ELBO
from mvcore.losses.importance import IWAE, DReG
from mvcore.losses.specs import ELBOConfig
from mvcore.models.multimodal import MultimodalVAE
from mvcore.models.specs import ComposedConfig, MultimodalVAEConfig
from mvcore.priors.specs import StandardPriorConfig
from mvcore.testing.checks import all_patterns
from mvcore.testing.linear import LinearGaussian

Compose = Callable[..., MultimodalVAE]
RATE = 0.4


@pytest.fixture
def private_world() -> LinearGaussian:
    return LinearGaussian({"a": 5, "b": 6, "c": 4}, 2, {"a": 1, "c": 2})


def expected(world: LinearGaussian, batch: Batch, rate: float) -> Tensor:
    """The mean bound of each row over the subsets, from closed forms.

    With exact posteriors of z and w_m given S, and the prior of w_m outside S, the bound of S is log p(x_O) less
    KL(p(z|x_S) ‖ p(z|x_O)) and less KL(p(w_m) ‖ p(w_m|x_m)) for each m of O outside S.
    """
    values = []
    for row in range(len(batch)):
        one = batch.select(torch.tensor([row]))
        have = [m for m in one.names if bool(one.column(m)[0])]
        target, total, mass = world.posterior(one, have), 0.0, 0.0
        for size in range(1, len(have) + 1):
            for given in itertools.combinations(have, size):
                chance = (1 - rate) ** size * rate ** (len(have) - size)
                gap = float(world.posterior(one, given).kl(target))
                for m in set(have) - set(given):
                    if own := world.private_dims.get(m, 0):
                        unit = DiagonalNormal(torch.zeros(1, own).double(), torch.zeros(1, own).double())
                        gap += float(unit.kl(world.private_posterior(one, m)))
                total += chance * (float(world.log_likelihood(one)[0]) - gap)
                mass += chance
        values.append(total / mass)
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("loss", [ELBO(), IWAE(samples=1), DReG(samples=1)], ids=["elbo", "iwae", "dreg"])
@pytest.mark.parametrize("private", [False, True])
def test_the_loss_is_the_mean_bound_over_the_subsets_that_may_be_left(
    loss: nn.Module, private: bool, world: LinearGaussian, private_world: LinearGaussian, compose: Compose
) -> None:
    world = private_world if private else world
    model = compose(world, loss, experts="likelihood", prior_expert="every", modality_dropout=RATE).train()
    rows = world.sample(14, observed=all_patterns(3).repeat(2, 1))
    many = rows.select(torch.arange(14).repeat(200))
    with torch.no_grad():
        means = torch.stack([-model(many).loss for _ in range(60)])
    error = float(means.std()) / 60**0.5
    assert abs(float(means.mean() - expected(world, rows, RATE).mean())) < 5 * error
    assert float(world.log_likelihood(rows).mean()) - float(means.mean()) > 20 * error  # the subsets do matter


def test_evaluation_conditions_on_all_that_a_row_has(world: LinearGaussian, compose: Compose) -> None:
    batch = world.sample(14, observed=all_patterns(3).repeat(2, 1))
    dropping, plain = (
        compose(world, IWAE(samples=3), experts="likelihood", prior_expert="every", modality_dropout=rate).eval()
        for rate in (RATE, 0.0)
    )
    # with the exact posterior each row's loss is its likelihood, whatever is drawn
    torch.testing.assert_close(dropping(batch).loss, -world.log_likelihood(batch).mean())
    torch.testing.assert_close(plain(batch).loss, -world.log_likelihood(batch).mean())
    torch.testing.assert_close(dropping.embed(batch), world.posterior(batch).loc)


@pytest.mark.parametrize("subsets", ["observed", "each", "all"])
def test_hidden_modalities_send_no_gradient_to_their_encoder_but_all_to_their_decoder(
    subsets: str, world: LinearGaussian, compose: Compose
) -> None:
    model = compose(world, ELBO(), subsets=subsets, modality_dropout=0.9).train()
    alone = world.sample(1)
    reached = set()
    for _ in range(20):
        model.zero_grad(set_to_none=True)
        model(alone).loss.backward()
        reached.add(tuple(bool(model.encoders[m].head.linear.weight.grad.any()) for m in alone.names))  # type: ignore[union-attr, operator]
        assert all(bool(p.grad.any()) for p in model.decoders.parameters() if p.grad is not None)
    assert len(reached) > 1
    assert all(any(pattern) for pattern in reached)


def test_each_pattern_has_the_probability_of_independent_draws_given_that_something_is_left() -> None:
    observed = torch.tensor([[True, True, False]]).expand(40_000, 3)
    kept = kept_at_random(observed, 0.3)
    shares = [float((kept == torch.tensor(p)).all(1).float().mean()) for p in ([1, 1, 0], [1, 0, 0], [0, 1, 0])]
    for share, chance in zip(shares, (0.49, 0.21, 0.21), strict=True):
        assert abs(share - chance / 0.91) < 5 * (0.25 / 40_000) ** 0.5
    assert not kept_at_random(torch.zeros(3, 2, dtype=torch.bool), 0.5).any()


def test_parts_of_two_families_are_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match=r"one family; got posterior.family='normal' and prior.family='laplace'"):
        MultimodalVAEConfig(prior=StandardPriorConfig(family="laplace"))
    assert ComposedConfig(loss=ELBOConfig(), private_dim={"a": 0}).has_private is False
    assert ComposedConfig(private_dim={"a": 0, "b": 2}).has_private is True
    with pytest.raises(ValueError, match=r"modality_dropout must be in \[0, 1\), got 1"):
        MultimodalVAEConfig(modality_dropout=1.0)
