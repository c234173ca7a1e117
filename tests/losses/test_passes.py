"""What a loss sees of a batch."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from mvcore.losses import Pass
from mvcore.models import MultimodalVAE
from mvcore.testing import LinearGaussian, all_patterns, small

D = 2


@pytest.mark.parametrize("complete", [False, True])
@pytest.mark.parametrize("prior_expert", ["none", "every", "full"])
def test_divergence_of_a_posterior_from_an_expert_is_that_of_the_two_normals(prior_expert: str, complete: bool) -> None:
    """Precision Σλ + 1 with a prior expert: in every row, in no row, or, for ``full``, in complete rows alone."""
    world = LinearGaussian({"a": 5, "b": 6, "c": 4}, D)
    batch = world.sample(7, observed=None if complete else all_patterns(3))
    model = small("multimodal", world.schema, modality_dropout=0.0, **{"posterior.prior_expert": prior_expert})
    assert isinstance(model, MultimodalVAE)
    view = Pass(model, batch)
    for m in world.schema.names:
        assert torch.equal(view.expert(m).loc, model.encoders[m](batch.x[m]).loc)
        kl = view.expert_kl(m)
        for row in range(7):
            one = batch.select(torch.tensor([row]))
            have = [n for n in one.names if one.column(n)[0]]
            if m not in have:
                assert kl[row] == 0
                continue
            q = {n: model.encoders[n](one.x[n]) for n in have}
            prior = float(prior_expert == "every" or (prior_expert == "full" and len(have) == 3))
            precision = prior + sum(torch.exp(-2 * e.log_scale) for e in q.values())
            loc = sum(e.loc * torch.exp(-2 * e.log_scale) for e in q.values()) / precision
            law = kl_divergence(Normal(loc, precision**-0.5), Normal(q[m].loc, q[m].log_scale.exp())).sum()
            torch.testing.assert_close(kl[row], law)


def test_divergence_of_a_mixture_from_an_expert_is_the_mean_of_its_components() -> None:
    world = LinearGaussian({"a": 5, "b": 6}, D)
    batch = world.sample(3, observed=all_patterns(2))
    fields = {"posterior.subsets": "each", "posterior.prior_expert": "none", "modality_dropout": 0.0}
    model = small("multimodal", world.schema, **fields)
    assert isinstance(model, MultimodalVAE)
    a, b = (model.encoders[m](batch.x[m]) for m in "ab")
    law = kl_divergence(Normal(b.loc[1], b.log_scale[1].exp()), Normal(a.loc[1], a.log_scale[1].exp())).sum() / 2
    kl = Pass(model, batch).expert_kl("a")  # the rows have b, a, both
    torch.testing.assert_close(kl, torch.stack([torch.zeros_like(law), torch.zeros_like(law), law]))
