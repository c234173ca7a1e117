"""The laws of CMVAE (Palumbo et al., 2024): of its objective, its clusters of partial rows, and pruning."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributions import Laplace, Normal

import mvcore
from mvcore.data import Schema
from mvcore.errors import ConfigError, NotApplicableError
from mvcore.models import Model
from mvcore.testing import (
    LinearGaussian,
    all_patterns,
    check_conditions_on_every_subset,
    check_neighbours,
    check_submodels,
    fixed_noise,
    small,
)
from mvcore_cmvae.clustering import clusters, of_encodings, probabilities
from mvcore_cmvae.prior import ClustersPrior
from mvcore_cmvae.pruning import prune

SIZES = {"a": 5, "b": 6, "c": 4}
D, C, PRIVATE = 2, 4, {"a": 1, "b": 3, "c": 1}
NORMAL = {
    "posterior.family": "normal", "posterior.scale": "exp", "prior.family": "normal",
    "loss.auxiliary.family": "normal", "loss.auxiliary.scale": "exp",
}  # fmt: skip
FAMILIES = pytest.mark.parametrize("fields", [{}, NORMAL], ids=["laplace", "normal"])


@pytest.fixture
def world() -> LinearGaussian:
    return LinearGaussian(SIZES, D, PRIVATE)


@pytest.fixture
def rows(world: LinearGaussian) -> mvcore.Batch:
    return world.sample(14, observed=all_patterns(3).repeat(2, 1))


def make(schema: Schema, name: str = "cmvae", **fields: object) -> Model:
    """CMVAE with random small encoders, and four clusters of unequal weights, in float64."""
    private = {m: PRIVATE[m] for m in schema.names if m in PRIVATE}
    chosen = {"prior.clusters": C} if name == "cmvae" else {}
    model = small(name, schema, **{"latent_dim": D, "private_dim": private, **chosen, **fields})
    with torch.no_grad():
        for r in model.loss.auxiliary.values():
            r.log_scale.copy_(torch.linspace(-0.7, 0.2, len(r.log_scale)))
        if isinstance(model.latent_prior, ClustersPrior):
            model.latent_prior.logits.copy_(torch.linspace(0.0, 1.5, len(model.latent_prior.logits)))
    return model


# The objective


@FAMILIES
@pytest.mark.parametrize("estimator", ["iwae", "dreg"])
def test_one_cluster_at_the_origin_is_mmvaeplus(
    world: LinearGaussian, rows: mvcore.Batch, estimator: str, fields: dict[str, object]
) -> None:
    chosen = {"loss.samples": 3, "loss.beta": 1.7, "loss.estimator": estimator, **fields}
    one, other = make(world.schema, **{"prior.clusters": 1, **chosen}), make(world.schema, "mmvaeplus", **chosen)
    one.latent_prior.loc.data.zero_()
    shared = {key: value for key, value in one.state_dict().items() if not key.startswith("latent_prior.")}
    other.load_state_dict(shared)
    with fixed_noise():
        losses = [model(rows).loss for model in (one, other)]
    torch.testing.assert_close(*losses)
    for loss in losses:
        loss.backward()
    for key, parameter in other.named_parameters():
        torch.testing.assert_close(dict(one.named_parameters())[key].grad, parameter.grad)
    torch.testing.assert_close(one.log_likelihood(rows, 5), other.log_likelihood(rows, 5))


@FAMILIES
def test_the_divergence_is_the_papers_sum_over_the_clusters(
    world: LinearGaussian, rows: mvcore.Batch, fields: dict[str, object]
) -> None:
    """Beside MMVAE+ at the same draws: β [Σ_c q(c|u) (log π_c + log p(u|c) − log q(c|u)) − log p(u)], K = 1."""
    chosen = {"loss.beta": 1.7, **fields}
    model, other = make(world.schema, **chosen), make(world.schema, "mmvaeplus", **chosen)
    shared = {key: value for key, value in model.state_dict().items() if not key.startswith("latent_prior.")}
    other.load_state_dict(shared)
    family = Laplace if not fields else Normal
    with torch.no_grad(), fixed_noise():
        difference = float(model(rows).loss - other(rows).loss)
        draws = model.posterior(model.encode_modalities(rows)).shared.draw(1, "each")
        pi, law = model.latent_prior.logits.softmax(0), 0.0
        for n, u in enumerate(draws["shared"][0]):
            joint = [pi[c] * family(model.latent_prior.loc[c], 1.0).log_prob(u).sum().exp() for c in range(C)]
            q = [float(value / sum(joint)) for value in joint]
            inner = sum(q[c] * (math.log(float(joint[c])) - math.log(q[c])) for c in range(C))
            plain = float(family(torch.zeros(D).double(), 1.0).log_prob(u).sum())
            law -= 1.7 * (inner - plain) / int(rows.observed[draws.rows[n]].sum()) / len(rows)
    assert difference == pytest.approx(law)


def test_the_mean_of_the_estimated_over_the_exact_likelihood_is_one(world: LinearGaussian) -> None:
    """Under normal clusters u is μ_c and a standard normal, so log p(x_O) is a mixture of moved likelihoods."""
    rows = world.sample(7, observed=all_patterns(3))
    model = make(world.schema, **NORMAL)
    model.encoders.update(world.encoders("posterior"))
    model.decoders.update(world.decoders())
    parts = []
    for mean, weight in zip(model.latent_prior.loc.detach(), model.latent_prior.logits.softmax(0), strict=True):
        moved = {m: x - world.W[m] @ mean for m, x in rows.x.items()}
        parts.append(weight.detach().log() + world.log_likelihood(mvcore.Batch(moved, rows.observed)))
    many = rows.select(torch.arange(7).repeat(3000))
    ratio = (model.log_likelihood(many, 6).view(3000, 7) - torch.stack(parts).logsumexp(0)).exp()
    error = ratio.std(0) / math.sqrt(3000)
    assert bool(((ratio.mean(0) - 1).abs() < 6 * error).all())
    assert float(error.max()) < 0.05


def test_locations_and_weights_of_the_clusters_learn(world: LinearGaussian, rows: mvcore.Batch) -> None:
    model = make(world.schema)
    model(rows).loss.backward()
    assert model.latent_prior.loc.grad.all()
    assert model.latent_prior.logits.grad.all()
    assert float(model.latent_prior.logits.grad.sum()) == pytest.approx(0, abs=1e-12)  # the weights sum to 1


@FAMILIES
def test_a_row_has_the_loss_of_a_model_built_on_its_modalities(
    world: LinearGaussian, rows: mvcore.Batch, fields: dict[str, object]
) -> None:
    fields = {"loss.samples": 3, "loss.beta": 1.3, **fields}
    check_submodels(lambda schema: make(schema, **fields), make(world.schema, **fields), rows)


# The prior, elsewhere


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("multimodal", {"posterior": {"use": "product", "prior_expert": "none"}, "modality_dropout": 0.0}),
        ("mopoe", {"loss.stratified": True}),
        ("mmvae", {"posterior": {"use": "product", "subsets": "each", "prior_expert": "none"}, "loss": "iwae"}),
    ],
)
def test_other_models_take_the_prior(name: str, fields: dict[str, object]) -> None:
    plain = LinearGaussian(SIZES, D)
    rows = plain.sample(7, observed=all_patterns(3))
    loss = {} if "loss" in fields else {"loss.kl": "monte_carlo"}
    model = small(name, plain.schema, prior={"use": "clusters", "clusters": 3}, **{**fields, **loss})
    model(rows).loss.backward()
    assert model.latent_prior.loc.grad.any()
    check_neighbours(model, rows)
    check_conditions_on_every_subset(model, rows)
    assert probabilities(model, rows).shape == (7, 3)


@pytest.mark.parametrize(
    ("name", "fields", "words"),
    [
        ("multimodal", {}, "set posterior.prior_expert='none', got 'every'"),
        ("mopoe", {}, "closed form, which a prior of several components does not have"),
        ("mvtcae", {}, "closed form, which a prior of several components does not have"),
        ("mvae", {"posterior.prior_expert": "none"}, "closed form, which a prior of several components does not have"),
        ("cmvae", {"posterior.family": "normal"}, "posterior and prior must be of one family"),
    ],
)
def test_models_that_need_one_density_refuse_it(name: str, fields: dict[str, object], words: str) -> None:
    family = "laplace" if name == "cmvae" else "normal"
    prior = {"use": "clusters", "clusters": 3, "family": family}
    with pytest.raises(ConfigError, match=words):
        small(name, Schema.from_shapes({"a": (3,), "b": (2,)}), prior=prior, **fields)


def test_no_cluster_is_refused(world: LinearGaussian) -> None:
    with pytest.raises(ConfigError, match="clusters must be greater than 0, got 0"):
        make(world.schema, **{"prior.clusters": 0})


# Clusters of rows


@FAMILIES
def test_a_rows_cluster_is_the_likeliest_on_average_over_what_it_has(
    world: LinearGaussian, rows: mvcore.Batch, fields: dict[str, object]
) -> None:
    model = make(world.schema, **fields)
    model.latent_prior.loc.data.mul_(2)
    family, pi = Laplace if not fields else Normal, model.latent_prior.logits.softmax(0)
    found, chosen = probabilities(model, rows), clusters(model, rows)
    with torch.no_grad():
        for row in range(14):
            one, total = rows.select(torch.tensor([row])), torch.zeros(C, dtype=torch.float64)
            have = [m for m in SIZES if one.column(m)[0]]
            for m in have:
                mu = model.encoders[m](one.x[m]).loc[0]
                joint = torch.stack(
                    [pi[c] * family(model.latent_prior.loc[c], 1.0).log_prob(mu).sum().exp() for c in range(C)]
                )
                total += joint / joint.sum() / len(have)
            torch.testing.assert_close(found[row], total)
            assert int(chosen[row]) == int(total.argmax())


def test_clusters_need_no_draws_and_leave_the_model_alone(world: LinearGaussian, rows: mvcore.Batch) -> None:
    model = make(world.schema).train()
    state = torch.get_rng_state()
    first = probabilities(model, rows)
    assert torch.equal(first, probabilities(model, rows))
    assert torch.equal(state, torch.get_rng_state())
    assert model.training
    assert not first.requires_grad
    torch.testing.assert_close(first.sum(1), torch.ones(14, dtype=torch.float64))
    for row in range(14):
        torch.testing.assert_close(probabilities(model, rows.select(torch.tensor([row])))[0], first[row])


def test_a_row_with_nothing_has_the_weights_of_the_prior(world: LinearGaussian, rows: mvcore.Batch) -> None:
    model, view = make(world.schema), rows.only(["b"])
    nothing = ~view.observed.any(1)
    found = probabilities(model, view)
    torch.testing.assert_close(
        found[nothing], model.latent_prior.logits.detach().softmax(0).expand(int(nothing.sum()), C)
    )
    one = probabilities(model, rows.only([]))
    torch.testing.assert_close(one[0], model.latent_prior.logits.detach().softmax(0))


def data_of(world: LinearGaussian, n: int = 60) -> mvcore.MultimodalDataset:
    batch = world.sample(n, observed=all_patterns(3)[torch.arange(n) % 7])
    full = {m: np.zeros((n, SIZES[m]), dtype=np.float32) for m in SIZES}
    for m in SIZES:
        full[m][batch.column(m).numpy()] = batch.x[m].float().numpy()
    return mvcore.MultimodalDataset(full, {m: batch.column(m).numpy() for m in SIZES})


def test_data_sets_are_clustered_in_blocks_by_the_names_of_their_modalities(world: LinearGaussian) -> None:
    data, model = data_of(world), make(world.schema).float()
    model.schema = data.schema
    whole = clusters(model, data)
    assert torch.equal(whole, clusters(model, data, batch_size=7))
    assert torch.equal(whole, of_encodings(model, model.encode_modalities(data.batch())).argmax(1))
    batch = data.batch()
    order = ("c", "a", "b")
    turned = mvcore.Batch({m: batch.x[m] for m in order}, batch.observed[:, [2, 0, 1]])
    specs = Schema(tuple(data.schema[m] for m in order))
    assert torch.equal(whole, clusters(model, mvcore.MultimodalDataset.from_batch(specs, turned)))


def test_a_model_without_clusters_says_so(world: LinearGaussian, rows: mvcore.Batch) -> None:
    model = make(world.schema, "mmvaeplus")
    with pytest.raises(NotApplicableError, match="The prior of this model is StandardPrior, which has no clusters"):
        clusters(model, rows)
    with pytest.raises(NotApplicableError, match="has no clusters"):
        prune(model, data_of(world))


# Pruning


def with_idle_clusters(world: LinearGaussian) -> Model:
    """Two clusters far from everything beside two that the rows fall into, clearly."""
    model = make(world.schema, **{"loss.beta": 1.3}).float()
    for m in SIZES:
        model.encoders[m].head.linear.weight.data[:D] *= 20
    model.latent_prior.loc.data.copy_(torch.tensor([[0.0, 500.0], [-6.0, 0.0], [0.0, -600.0], [6.0, 0.1]]))
    return model


def test_idle_clusters_go_and_the_others_keep_their_rows_and_their_ratio(world: LinearGaussian) -> None:
    model, data = with_idle_clusters(world), data_of(world)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    result = prune(model, data)
    assert result.kept == (1, 3)
    assert sorted(result.criterion) == [2, 3, 4]
    assert min(result.criterion, key=result.criterion.get) == 2
    assert (result.model.config.prior.clusters, model.config.prior.clusters) == (2, C)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    pi, smaller = model.latent_prior.logits.softmax(0), result.model.latent_prior.logits.softmax(0)
    torch.testing.assert_close(smaller, pi[[1, 3]] / pi[[1, 3]].sum())
    assert torch.equal(result.model.latent_prior.loc, model.latent_prior.loc[[1, 3]])
    assert torch.equal(torch.tensor(result.kept)[clusters(result.model, data)], clusters(model, data))


@torch.no_grad()
def test_the_criterion_is_the_papers_by_loops(world: LinearGaussian) -> None:
    model, data = make(world.schema, **{"loss.beta": 1.3}).float(), data_of(world, 20)
    found = prune(model, data).criterion[C]
    again = prune(model, data, beta=0.0).criterion[C]
    batch, law, plain = data.batch(), 0.0, 0.0
    pi = model.latent_prior.logits.softmax(0)
    for row in range(20):
        one = batch.select(torch.tensor([row]))
        have = [m for m in SIZES if one.column(m)[0]]
        for m in have:
            mu = model.encoders[m](one.x[m]).loc[0]
            joint = [float(pi[c] * Laplace(model.latent_prior.loc[c], 1.0).log_prob(mu).sum().exp()) for c in range(C)]
            q = [value / sum(joint) for value in joint]
            entropy = -sum(p * math.log(p) for p in q) / math.log(C)
            law += (1.3 * entropy - math.log(sum(joint)) / D) / len(have) / 20
            plain -= math.log(sum(joint)) / D / len(have) / 20
    assert found == pytest.approx(law, rel=1e-5)
    assert again == pytest.approx(plain, rel=1e-5)


def test_a_pruned_model_has_the_loss_of_the_other_with_the_weights_of_what_is_gone_at_zero(
    world: LinearGaussian,
) -> None:
    model, data = with_idle_clusters(world), data_of(world)
    smaller, batch = prune(model, data).model, data.batch()
    model.latent_prior.logits.data[[0, 2]] = -torch.inf
    with fixed_noise(), torch.no_grad():
        torch.testing.assert_close(smaller(batch).loss, model(batch).loss)
    torch.testing.assert_close(smaller.log_likelihood(batch, 20), model.log_likelihood(batch, 20))


def test_a_pruned_model_trains_on_saves_loads_and_scores(world: LinearGaussian, tmp_path: Path) -> None:
    data = data_of(world)
    narrow = {f"modalities.{m}.{part}.hidden": [8] for m in SIZES for part in ("encoder", "decoder")}
    model = mvcore.create("cmvae", data, latent_dim=D, private_dim=1, **{"prior.clusters": C, **narrow})
    model = mvcore.fit(model, data, epochs=1, progress=False, hooks=False).model
    model.latent_prior.loc.data[2] = 80.0
    torch.manual_seed(3)
    state = torch.get_rng_state()
    smaller = prune(model, data).model
    assert torch.equal(state, torch.get_rng_state())
    assert 2 <= len(smaller.latent_prior.loc) < C
    torch.testing.assert_close(smaller.embed(data.batch()), model.embed(data.batch()))
    trained = mvcore.fit(smaller, data, epochs=1, progress=False, hooks=False).model
    again = mvcore.load(mvcore.save(trained, tmp_path / "model"))
    assert again.config == trained.config
    assert torch.equal(clusters(again, data), clusters(trained, data))
    assert torch.equal(again.log_likelihood(data.batch(), 3), trained.eval().log_likelihood(data.batch(), 3))


def test_as_many_clusters_as_asked_for_are_kept(world: LinearGaussian) -> None:
    model, data = with_idle_clusters(world), data_of(world)
    for n in (2, 3, 4):
        result = prune(model, data, clusters=n)
        assert len(result.kept) == len(result.model.latent_prior.loc) == n
        assert {1, 3} <= set(result.kept)
    for n in (1, 5):
        with pytest.raises(ConfigError, match=f"clusters: expected 2 to 4, those of the model, got {n}"):
            prune(model, data, clusters=n)


def test_a_model_of_one_cluster_has_nothing_to_prune(world: LinearGaussian) -> None:
    with pytest.raises(ConfigError, match="with two clusters or more"):
        prune(make(world.schema, **{"prior.clusters": 1}).float(), data_of(world))


def test_defaults_are_those_of_the_public_runs(world: LinearGaussian) -> None:
    config = mvcore.create("cmvae", world.schema).config
    assert (config.latent_dim, config.private_dim, config.loss.samples, config.loss.beta) == (32, 32, 1, 1.0)
    assert (config.prior.clusters, config.prior.family, config.prior.learn_scale) == (40, "laplace", False)
    assert (config.posterior.family, config.posterior.scale, config.posterior.subsets) == ("laplace", "softmax", "each")
