"""``Mixture``: the density, and three ways to draw from it that agree in the mean."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, Laplace, MixtureSameFamily, Normal

from mvcore.distributions import mixture
from mvcore.distributions.diagonal import Diagonal, DiagonalLaplace, DiagonalNormal
from mvcore.distributions.latents import How, Latents
from mvcore.distributions.mixture import Mixture, share_equally
from mvcore.errors import NotApplicableError

C, B, D = 3, 4, 2
#: Row 0 has all components, row 1 the first two, row 2 the last alone, row 3 the outer two.
EXISTS = torch.tensor([[True, True, False, True], [True, True, False, False], [True, False, True, True]])
WEIGHTS = torch.tensor([[0.5, 0.1, 0.0, 0.7], [0.2, 0.9, 0.0, 0.0], [0.3, 0.0, 1.0, 0.3]], dtype=torch.float64)
HOWS = pytest.mark.parametrize("how", get_args(How))


def make(family: type[Diagonal] = DiagonalNormal, weights: Tensor = WEIGHTS, exists: Tensor = EXISTS) -> Mixture:
    generator = torch.Generator().manual_seed(4)
    loc = 2 * torch.randn(*exists.shape, D, dtype=torch.float64, generator=generator)
    log_scale = torch.randn(*exists.shape, D, dtype=torch.float64, generator=generator)
    return Mixture(family(loc, log_scale), weights, exists)


def reference(q: Mixture, row: int) -> MixtureSameFamily:
    """The mixture of one row, of the components that it has."""
    kept = EXISTS[:, row]
    family = Normal if isinstance(q.components, DiagonalNormal) else Laplace
    parts = family(q.components.loc[kept, row], q.components.scale[kept, row])
    return MixtureSameFamily(Categorical(q.weights[kept, row]), Independent(parts, 1))


@pytest.mark.parametrize("block", [1, 2**22])
@pytest.mark.parametrize("family", [DiagonalNormal, DiagonalLaplace])
def test_log_prob_is_that_of_torchs_mixture_of_the_components_that_the_row_has(
    family: type[Diagonal], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mixture, "BLOCK", block)
    q = make(family)
    z = 3 * torch.randn(5, B, D, dtype=torch.float64)
    expected = torch.stack([reference(q, row).log_prob(z[:, row]) for row in range(B)], 1)
    torch.testing.assert_close(q.log_prob(Latents({"shared": z}, B)), expected)
    rows = torch.tensor([3, 0, 0, 2, 1, 3])
    packed = 3 * torch.randn(5, 6, D, dtype=torch.float64)
    expected = torch.stack([reference(q, int(row)).log_prob(packed[:, n]) for n, row in enumerate(rows)], 1)
    torch.testing.assert_close(q.log_prob(Latents({"shared": packed}, B, rows=rows)), expected)


def test_a_mixture_of_one_row_stands_for_every_row() -> None:
    q = Mixture(DiagonalNormal.unit(1, 1, D), torch.ones(1, 1), torch.ones(1, 1, dtype=torch.bool))
    z = torch.randn(3, 5, D)
    expected = Normal(0.0, 1.0).log_prob(z).sum(-1)
    torch.testing.assert_close(q.log_prob(Latents({"shared": z}, 4, rows=torch.tensor([0, 3, 1, 1, 2]))), expected)


@HOWS
@pytest.mark.parametrize("K", [1, 2, 3, 4, 7])
def test_the_shares_of_a_row_sum_to_one_and_each_row_gets_enough_draws(K: int, how: How) -> None:
    q = make()
    latents = q.draw(K, how)
    N = latents["shared"].shape[1]
    shares = torch.zeros(B, dtype=torch.float64)
    weight = torch.ones(N, dtype=torch.float64) if latents.log_weight is None else latents.log_weight.exp()
    shares.index_add_(0, latents.row_index(torch.device("cpu")), weight)
    torch.testing.assert_close(shares, torch.ones(B, dtype=torch.float64))
    draws = latents.K * latents.row_index(torch.device("cpu")).bincount(minlength=B)
    assert latents.component is not None
    component = latents.component.expand(latents.K, N)
    per_component = torch.zeros(C, B, dtype=torch.long)
    for k in range(latents.K):
        for n, row in enumerate(latents.row_index(torch.device("cpu")).tolist()):
            per_component[component[k, n], row] += 1
    assert not per_component[~EXISTS].any()  # a component that a row does not have is never drawn from
    if how == "random":
        assert draws.tolist() == [K] * B
    elif how == "each":
        assert per_component[EXISTS].tolist() == [K] * int(EXISTS.sum())
    else:  # as many from each component of a row, together the least that is K
        counts = EXISTS.sum(0)
        assert draws.tolist() == [int(math.ceil(K / c) * c) for c in counts.tolist()]
        assert (per_component == per_component.amax(0) * EXISTS).all()


@HOWS
@pytest.mark.parametrize("K", range(1, 8))
def test_each_draw_comes_from_the_component_and_row_that_it_names(K: int, how: How) -> None:
    # scales of almost 0, so that a draw is the location of its component
    q = make()
    narrow = Mixture(DiagonalNormal(q.components.loc, q.components.log_scale * 0 - 30), WEIGHTS, EXISTS)
    latents = narrow.draw(K, how)
    assert latents.component is not None
    component = latents.component.expand(latents["shared"].shape[:2])
    rows = latents.row_index(torch.device("cpu")).expand_as(component)
    torch.testing.assert_close(latents["shared"], q.components.loc[component, rows], atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    ("exists", "K"),
    [
        ([[True, True], [True, False]], 2),  # 2 · 1 + 1 · 2 pairs: as many as components times rows
        ([[True, True, False], [True, False, True], [True, True, False]], 3),
    ],
)
def test_uneven_draws_come_from_existing_components_however_many_they_are(exists: list[list[bool]], K: int) -> None:
    have = torch.tensor(exists)
    loc = torch.where(have, 1.0, 100.0)[..., None]
    q = Mixture(DiagonalNormal(loc, torch.full_like(loc, -30)), share_equally(have, loc), have)
    assert float(q.draw(K, "spread")["shared"].max()) < 2


@HOWS
def test_every_way_to_draw_has_the_mixtures_expectations(how: How) -> None:
    n = 40_000
    q = make()
    latents = q.draw(n, how)
    z = latents["shared"]
    mean = q.mean()
    second = torch.einsum("cb,cbd->bd", WEIGHTS, q.components.loc**2 + q.components.scale**2)
    for d in range(D):
        for values, exact in [(z[..., d], mean[:, d]), (z[..., d] ** 2, second[:, d])]:
            # the spread within all draws bounds that of the estimate, for at least n draws of each row
            estimate, square = latents.mean(values), latents.mean(values**2)
            error = ((square - estimate**2) / n).sqrt()
            assert ((estimate - exact).abs() < 5 * error).all(), how


def test_the_components_of_random_draws_have_the_mixtures_probabilities() -> None:
    n = 20_000
    component = make().draw(n, "random").component
    assert component is not None
    shares = torch.stack([(component == c).double().mean(0) for c in range(C)])
    error = (WEIGHTS * (1 - WEIGHTS) / n).sqrt()
    assert ((shares - WEIGHTS).abs() <= 4.5 * error).all()


@HOWS
def test_an_integral_of_the_density_over_draws_is_one(how: How) -> None:
    # E_q [p(z) / q(z)] = 1 for a normal p wide enough: the draws and the density belong to the same mixture
    q = make(DiagonalLaplace)
    latents = q.draw(40_000, how)
    p = Normal(0.0, 0.5).log_prob(latents["shared"]).sum(-1)
    ratio = (p - q.log_prob(latents)).exp()
    estimate = latents.mean(ratio)
    error = ((latents.mean(ratio**2) - estimate**2).clamp(min=0) / 40_000).sqrt()
    assert ((estimate - 1).abs() < 5 * error + 1e-3).all()


@HOWS
def test_gradients_are_finite_and_zero_where_a_component_is_absent(how: How) -> None:
    q = make()
    loc, log_scale = q.components.loc.clone().requires_grad_(), q.components.log_scale.clone().requires_grad_()
    p = Mixture(DiagonalNormal(loc, log_scale), WEIGHTS, EXISTS)
    latents = p.draw(5, how)
    prior = Mixture(DiagonalNormal.unit(1, 1, D, like=loc), torch.ones(1, 1), torch.ones(1, 1, dtype=torch.bool))
    (latents.mean(p.log_prob(latents)).sum() + p.kl(prior).sum() + p.mean().sum()).backward()
    for gradient in (loc.grad, log_scale.grad):
        assert gradient is not None
        assert gradient.isfinite().all()
        assert not gradient[~EXISTS].any()
    assert loc.grad is not None
    assert loc.grad[EXISTS].all()


def test_the_convex_divergence_is_the_weighted_mean_and_no_less_than_the_mixtures() -> None:
    q = make()
    prior = Mixture(DiagonalNormal.unit(1, 1, D, like=WEIGHTS), torch.ones(1, 1), torch.ones(1, 1, dtype=torch.bool))
    expected = (WEIGHTS * q.components.kl(DiagonalNormal.unit(D, like=WEIGHTS))).sum(0)
    torch.testing.assert_close(q.kl(prior), expected)
    latents = q.draw(20_000, "each")
    ratio = q.log_prob(latents) - prior.log_prob(latents)
    estimate = latents.mean(ratio)
    error = ((latents.mean(ratio**2) - estimate**2) / 20_000).sqrt()
    entropy = -(WEIGHTS * WEIGHTS.clamp(min=1e-30).log()).sum(0)
    assert (expected - estimate > -5 * error).all()
    assert (expected - estimate < entropy + 5 * error).all()  # the gap is the mutual information of z and component
    two = Mixture(DiagonalNormal.unit(2, 1, D), torch.full((2, 1), 0.5), torch.ones(2, 1, dtype=torch.bool))
    with pytest.raises(NotApplicableError, match="A mixture of 2 components has no divergence in closed form"):
        q.kl(two)


@HOWS
def test_a_mixture_without_rows_draws_nothing(how: How) -> None:
    nobody = Mixture(DiagonalNormal.unit(C, 0, D), torch.zeros(C, 0), torch.zeros(C, 0, dtype=torch.bool))
    latents = nobody.draw(4, how)
    assert latents["shared"].shape[1:] == (0, D)
    assert nobody.log_prob(latents).shape == latents["shared"].shape[:2]
    assert latents.log_mean_exp(nobody.log_prob(latents)).shape == (0,)


def test_equal_shares() -> None:
    assert share_equally(EXISTS, WEIGHTS)[:, 1].tolist() == [0.5, 0.5, 0]
    torch.testing.assert_close(share_equally(EXISTS, WEIGHTS).sum(0), torch.ones(B, dtype=torch.float64))
