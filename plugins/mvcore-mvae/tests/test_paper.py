"""The laws of MVAE (Wu & Goodman, 2018): on linear maps, whose posteriors are known, with arbitrary encoders."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import pytest
import torch
from torch import Tensor

import mvcore
from mvcore.data import Schema
from mvcore.distributions import DiagonalNormal
from mvcore.errors import ConfigError
from mvcore.models import Model
from mvcore.testing import LinearGaussian, all_patterns, check_no_rows, sigma_points, small

SIZES = {"a": 5, "b": 6, "c": 4}
D = 2
PATTERNS = all_patterns(3).repeat(2, 1)


@pytest.fixture
def world() -> LinearGaussian:
    return LinearGaussian(SIZES, D)


def make(schema: Schema, **fields: object) -> Model:
    """An MVAE with random small encoders and 2D draws a term, in float64."""
    return small("mvae", schema, **{"loss.samples": 2 * D, "latent_dim": D, **fields})


def with_exact_decoders(world: LinearGaussian, **fields: object) -> Model:
    model = make(world.schema, **fields)
    model.decoders.update(world.decoders())
    return model


def exact(world: LinearGaussian, **fields: object) -> Model:
    """The same with the likelihoods of z as experts: every product with the prior is the exact posterior."""
    model = with_exact_decoders(world, **fields)
    model.encoders.update(world.encoders("likelihood"))
    return model


def bound(world: LinearGaussian, model: Model, batch: mvcore.Batch, names: tuple[str, ...], beta: float) -> Tensor:
    """−log p(x_S) + KL(q_S ‖ p(z|x_S)) + (β − 1) KL(q_S ‖ p) of each row with something of S, ``(B,)``; else 0."""
    view = batch.only(names)
    q = model.posterior(model.encode_modalities(batch).only(names)).shared.components[0]
    prior = type(q).unit(len(batch), D, like=q.loc)
    value = -world.log_likelihood(view) + q.kl(world.posterior(view)) + (beta - 1) * q.kl(prior)
    return value.where(view.observed.any(1), 0)


@pytest.mark.parametrize("prior_expert", ["none", "every", "full"])
def test_bound_is_that_of_each_row_s_own_product(world: LinearGaussian, prior_expert: str) -> None:
    """Precision Σλ + 1 with a prior expert: in every row, in none, or, for ``full``, in complete rows alone."""
    batch = world.sample(14, observed=PATTERNS)
    fields = {"posterior.prior_expert": prior_expert, "loss.unimodal": False}
    model = with_exact_decoders(world, **fields)
    experts = {m: model.encoders[m](batch.x[m]) for m in SIZES}
    scales = batch.dense([experts[m].log_scale.expand_as(experts[m].loc) for m in SIZES], torch.inf)
    locs, complete = batch.dense([experts[m].loc for m in SIZES], 0.0), batch.observed.all(1)[:, None]
    prior = {"none": 0 * complete, "every": 0 * complete + 1, "full": complete}[prior_expert].to(locs)
    precision = torch.exp(-2 * scales).sum(0) + prior
    q = DiagonalNormal((torch.exp(-2 * scales) * locs).sum(0) / precision, -0.5 * precision.log())
    law = -world.log_likelihood(batch) + q.kl(world.posterior(batch))
    kept = batch.observed.any(1)
    with sigma_points():
        loss = model(batch).loss
    torch.testing.assert_close(loss, law.where(kept, 0).mean())


@pytest.mark.parametrize("beta", [1.0, 2.5])
@pytest.mark.parametrize("unimodal", [True, False])
def test_loss_sums_the_bounds_of_the_row_and_of_each_of_its_modalities(
    world: LinearGaussian, unimodal: bool, beta: float
) -> None:
    batch = world.sample(14, observed=PATTERNS)
    model = with_exact_decoders(world, **{"loss.unimodal": unimodal, "loss.beta": beta})
    subsets = [("a", "b", "c"), *([("a",), ("b",), ("c",)] if unimodal else [])]
    law = sum(bound(world, model, batch, names, beta) for names in subsets)
    with sigma_points():
        torch.testing.assert_close(model(batch).loss, law.mean())


def test_a_row_of_one_modality_counts_its_bound_twice(world: LinearGaussian) -> None:
    batch, model = world.sample(3, observed=torch.eye(3, dtype=torch.bool)), exact(world)
    with sigma_points():
        torch.testing.assert_close(model(batch).loss, -2 * world.log_likelihood(batch).mean())


def test_random_subsets_are_drawn_once_for_a_batch_uniformly_and_restricted_to_what_a_row_has() -> None:
    """Four modalities, so subsets of two (six) or three (four): each size half of the time, each of a size alike."""
    world = LinearGaussian(dict.fromkeys("abcd", 3), D)
    batch = world.sample(15, observed=all_patterns(4))
    model = exact(world, **{"loss.subsets": 1, "loss.unimodal": False})
    names = [s for size in (2, 3) for s in combinations("abcd", size)]
    worth = {s: float(-world.log_likelihood(batch, s).mean()) for s in names}
    whole = float(-world.log_likelihood(batch).mean())
    seen: Counter[tuple[str, ...]] = Counter()
    with torch.no_grad(), sigma_points():
        for seed in range(600):
            torch.manual_seed(seed)
            added = float(model(batch).loss) - whole
            nearest = min(names, key=lambda s: abs(worth[s] - added))
            assert added == pytest.approx(worth[nearest], rel=1e-9)
            seen[nearest] += 1
    for s in names:
        share = 0.5 / (6 if len(s) == 2 else 4)
        assert abs(seen[s] - 600 * share) < 4 * (600 * share * (1 - share)) ** 0.5


def test_outside_training_there_is_no_random_subset(world: LinearGaussian) -> None:
    batch, model = world.sample(14, observed=PATTERNS), exact(world, **{"loss.subsets": 3}).eval()
    law = -world.log_likelihood(batch)
    for m in SIZES:
        law = law - world.log_likelihood(batch, [m])
    with sigma_points():
        torch.testing.assert_close(model(batch).loss, law.mean())


def test_without_other_terms_it_is_the_composed_models_elbo(world: LinearGaussian) -> None:
    batch, model = world.sample(14, observed=PATTERNS), make(world.schema, **{"loss.unimodal": False})
    parts = {"modalities": dict(model.config.modalities), "modality_dropout": 0.0}
    loss = {"loss.samples": 2 * D, "loss.beta": 1.0}
    other = mvcore.create("multimodal", world.schema, latent_dim=D, **parts, **loss).double()
    other.load_state_dict(model.state_dict())
    with sigma_points():
        torch.testing.assert_close(model(batch).loss, other(batch).loss)


def test_each_network_runs_once_for_all_terms(world: LinearGaussian) -> None:
    model, batch = make(world.schema, **{"loss.subsets": 2}), world.sample(7, observed=all_patterns(3))
    calls: Counter[str] = Counter()
    for kind in ("encoders", "decoders"):
        for name, module in getattr(model, kind).items():
            module.register_forward_hook(lambda *_, key=f"{kind}/{name}": calls.update([key]))
    model(batch)
    assert calls == {f"{kind}/{m}": 1 for kind in ("encoders", "decoders") for m in SIZES}


def test_no_rows_with_random_subsets(world: LinearGaussian) -> None:
    model = make(world.schema, **{"loss.subsets": 2})
    check_no_rows(model, world.sample(14, observed=PATTERNS))


def test_a_mixture_and_private_latents_are_refused() -> None:
    schema = Schema.from_shapes({"a": (3,), "b": (2,)})
    with pytest.raises(
        ConfigError, match=r"needs one product for each row; set posterior.subsets='observed', got 'each'"
    ):
        make(schema, **{"posterior.subsets": "each"})
    with pytest.raises(ConfigError, match="takes no private latents; set private_dim=0, got 2"):
        make(schema, private_dim=2)
