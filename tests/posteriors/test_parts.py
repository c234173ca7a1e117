"""Mixtures of more components than are held: parts are fused where they are needed, and nothing else changes."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from mvcore.data.batch import Batch
from mvcore.distributions import mixture
from mvcore.distributions.diagonal import DiagonalNormal
from mvcore.distributions.encoded import Encoded
from mvcore.distributions.latents import How
from mvcore.distributions.mixture import Mixture
from mvcore.posteriors import base
from mvcore.posteriors.product import ProductOfExperts
from mvcore.posteriors.specs import PriorExpert
from mvcore.testing.checks import all_patterns

NAMES, D = ("a", "b", "c", "d"), 3
PRIOR = Mixture(DiagonalNormal.unit(1, 1, D), torch.ones(1, 1), torch.ones(1, 1, dtype=torch.bool))
PRIORS = pytest.mark.parametrize("prior_expert", get_args(PriorExpert))


def rows(*, partial: bool) -> Batch:
    """Rows of every pattern, or complete ones, as many."""
    observed = all_patterns(len(NAMES)) if partial else torch.ones(15, len(NAMES), dtype=torch.bool)
    return Batch({m: torch.randn(int(observed[:, i].sum()), 2 * D) for i, m in enumerate(NAMES)}, observed)


def experts(batch: Batch) -> dict[str, Encoded]:
    leaves = {m: x.clone().requires_grad_() for m, x in batch.x.items()}
    return {m: Encoded(x[:, :D], x[:, D:]) for m, x in leaves.items()}


def value_and_gradient(encoded: dict[str, Encoded], batch: Batch, prior_expert: PriorExpert) -> list[Tensor]:
    """A divergence, a mean, a density and draws of each kind, and the gradient of all."""
    q = ProductOfExperts(NAMES, subsets="all", prior_expert=prior_expert)(encoded, batch, PRIOR)
    torch.manual_seed(0)
    draws = [q.draw(2, how) for how in get_args(How)]
    values = [q.kl(PRIOR), q.mean(), *(q.log_prob(z) for z in draws), *(z["shared"] for z in draws)]
    values += [q.detach().kl(PRIOR)]
    parameters = [p for e in encoded.values() for p in (e.loc, e.log_scale)]
    total = torch.stack([(v * torch.arange(v.numel()).view_as(v).cos()).sum() for v in values]).sum()
    return [*values, *torch.autograd.grad(total, parameters)]


@PRIORS
@pytest.mark.parametrize("partial", [True, False])
@pytest.mark.parametrize("part", [1, 40, 2**16])
def test_parts_give_what_all_components_give(
    prior_expert: PriorExpert, partial: bool, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = rows(partial=partial)
    encoded = experts(batch)
    held = value_and_gradient(encoded, batch, prior_expert)
    monkeypatch.setattr(base, "HELD", 0)
    monkeypatch.setattr(mixture, "PART", part)
    for mine, wanted in zip(value_and_gradient(encoded, batch, prior_expert), held, strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-4)


def test_no_part_is_fused_in_half_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = rows(partial=True)
    encoded = experts(batch)
    exact = ProductOfExperts(NAMES, subsets="all")(encoded, batch, PRIOR).kl(PRIOR)
    monkeypatch.setattr(base, "HELD", 0)
    with torch.autocast("cpu", torch.bfloat16):
        q = ProductOfExperts(NAMES, subsets="all")(encoded, batch, PRIOR)
        torch.testing.assert_close(q.kl(PRIOR), exact)
        assert q.pick is not None
        chosen = q.pick(torch.tensor([14]), torch.tensor([14]))  # all four experts, in the row that has them
        torch.testing.assert_close(chosen.loc[0], q.components.loc[14, 14])


def test_no_tensor_grows_with_components_and_dimensions(largest: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 255 components, 9 rows and 50 dimensions; weights and masks have one number a pair."""
    names, C, B, width = [f"m{i}" for i in range(8)], 255, 9, 50
    monkeypatch.setattr(base, "HELD", 0)
    monkeypatch.setattr(mixture, "PART", 10 * B)
    batch = Batch({m: torch.randn(B, 2 * width) for m in names}, torch.ones(B, 8, dtype=torch.bool))
    encoded = {m: Encoded(*x.requires_grad_().split(width, 1)) for m, x in batch.x.items()}
    unit = DiagonalNormal.unit(1, 1, width)
    prior = Mixture(unit, torch.ones(1, 1), torch.ones(1, 1, dtype=torch.bool))
    with largest as seen:
        q = ProductOfExperts(names, subsets="all", prior_expert="none")(encoded, batch, prior)
        (q.kl(prior).sum() + q.draw(1)["shared"].sum()).backward()
    assert seen.values == max(10 * B * width, 8 * B * width)  # a part, of ten components
    assert seen.values < C * B * width / 20
