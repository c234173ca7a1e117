"""Posterior summaries: means and deviations are those of the posterior, conditioned on what is asked for."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import mvcore
from mvcore.data.dataset import MultimodalDataset
from mvcore.errors import DataError, NotApplicableError
from mvcore.inference.embedding import _deviation
from mvcore.plugins.registry import Registry
from mvcore.testing import LinearGaussian, all_patterns

MODELS = [entry.name for entry in Registry.installed().entries("model")]


def rows(world: LinearGaussian, n: int = 14, **more: Any) -> MultimodalDataset:
    batch = world.sample(n, observed=all_patterns(3).repeat(n // 7, 1))
    single = mvcore.Batch({m: x.float() for m, x in batch.x.items()}, batch.observed)
    return MultimodalDataset.from_batch(world.schema, single, **more)


def test_summaries_are_those_of_the_exact_posterior(world: LinearGaussian, compose: Any) -> None:
    """Linear-Gaussian: the precision is 1 + Σ W'W/σ², its inverse's diagonal the variance where it is diagonal."""
    model = compose(world, experts="likelihood", prior_expert="every").float()
    data = rows(world)
    found = mvcore.embed(model, data, std=True)
    q = model.posterior(model.encode_modalities(data.batch())).shared
    torch.testing.assert_close(found, torch.cat([q.single.loc, q.single.scale], 1).detach())


@pytest.mark.parametrize("family", ["normal", "laplace"])
def test_the_deviation_of_a_mixture_is_that_of_its_draws(world: LinearGaussian, family: str) -> None:
    fields = {"posterior.subsets": "each", "posterior.prior_expert": "none", "posterior.family": family}
    data = rows(world)
    model = mvcore.create("multimodal", data, latent_dim=2, private_dim=1, **{**fields, "prior.family": family})
    model.fit_transforms(data)
    found = mvcore.embed(model, data, std=True, private=True)
    assert found.shape == (14, 2 * (2 + 3))
    latents = model.encode(data.batch(), 40_000)
    drawn = torch.cat([latents[name] for name in ("shared", "private/a", "private/b", "private/c")], -1)
    torch.testing.assert_close(found[:, 5:], drawn.std(0), rtol=0.05, atol=1e-3)
    error = 5 * drawn.std(0) / 200
    assert bool(((found[:, :5] - drawn.mean(0)).abs() < error + 1e-5).all())
    lacks = ~data.observed[:, 0]  # a private latent of an absent modality is the prior's: 0 ± 1, or √2 of a Laplace
    assert not found[lacks, 2].any()
    torch.testing.assert_close(found[lacks, 7], torch.full((6,), 1.0 if family == "normal" else 2**0.5))


def test_given_conditions_on_a_view(world: LinearGaussian) -> None:
    data = rows(world)
    model = mvcore.create("multimodal", data, latent_dim=2)
    model.fit_transforms(data)
    torch.testing.assert_close(mvcore.embed(model, data, given=["a", "c"]), model.embed(data.batch().only(["a", "c"])))
    prior = mvcore.embed(model, data, given=["a"], std=True)[~data.observed[:, 0]]
    torch.testing.assert_close(prior, torch.tensor([0.0, 0, 1, 1]).expand(6, 4))


def test_columns_say_which_latent_and_which_summary(world: LinearGaussian) -> None:
    data = rows(world, ids=[f"p{i}" for i in range(14)])
    model = mvcore.create("multimodal", data, latent_dim=2, private_dim={"b": 1})
    model.fit_transforms(data)
    table = mvcore.embed(model, data, std=True, private=True)
    assert table.columns.tolist() == ["z0", "z1", "private/b/0", "z0_std", "z1_std", "private/b/0_std"]
    assert table.index.tolist() == data.ids.tolist()
    assert mvcore.embed(model, data).equals(table[["z0", "z1"]])


@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_finite_positive_deviations(name: str, world: LinearGaussian) -> None:
    data = rows(world)
    model = mvcore.create(name, data, latent_dim=2)
    model.fit_transforms(data)
    facts = Registry.installed().spec("model", name).facts
    if facts is not None and facts.likelihood == "none":  # its codes are points
        with pytest.raises(NotApplicableError, match="points, which have no density"):
            mvcore.embed(model, data, std=True)
        return
    found = mvcore.embed(model, data, std=True, given=["a", "b"])
    assert found.shape[0] == 14
    assert bool((found[:, found.shape[1] // 2 :] > 0).all())


def test_deviations_from_draws_follow_shares() -> None:
    """Two pairs of one row, shares .25 and .75, at 0 and 4: mean 3, variance .25·9 + .75·1 = 3."""
    from mvcore.distributions import Latents

    z = torch.tensor([0.0, 4.0]).view(1, 2, 1)
    latents = Latents({"shared": z}, 1, rows=torch.tensor([0, 0]), log_weight=torch.tensor([0.25, 0.75]).log())
    torch.testing.assert_close(_deviation(latents, z), torch.tensor([[3.0]]).sqrt())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"given": "a"}, "given must list modalities"),
        ({"given": []}, "names no modality"),
        ({"given": ["nothing"]}, "Unknown modality 'nothing'"),
        ({"private": True}, "no latents beside the shared one"),
        ({"std": "yes"}, "std must be True or False"),
    ],
)
def test_what_cannot_be_summarised_is_refused(settings: dict[str, Any], message: str, world: LinearGaussian) -> None:
    data = rows(world)
    model = mvcore.create("multimodal", data, latent_dim=2)
    model.fit_transforms(data)
    with pytest.raises(DataError, match=message):
        mvcore.embed(model, data, **settings)
