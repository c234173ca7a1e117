"""The laws of DVCCA (Wang et al., 2016) and VCCA-private: on linear maps, with arbitrary encoders."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

import mvcore
from mvcore.data import CovariateSpec, MultimodalDataset, Schema
from mvcore.distributions import DiagonalNormal
from mvcore.errors import ConfigError, DataError
from mvcore.models import Model
from mvcore.testing import LinearGaussian, all_patterns, check_neighbours, check_submodels, sigma_points, small

SIZES = {"a": 5, "b": 6, "c": 4}
D, PRIVATE = 2, {"a": 1, "b": 3, "c": 1}
K = 12  # a multiple of twice each of 2, 1 and 3 dimensions, as sigma points need
BOTH = pytest.mark.parametrize("private", [{}, PRIVATE], ids=["shared", "private"])
MAIN = pytest.mark.parametrize("main", ["a", "b"])


def make(schema: Schema, private: dict[str, int], main: str = "b", **fields: object) -> Model:
    """A DVCCA with random small encoders, in float64."""
    own = {m: d for m, d in private.items() if m in schema.names}
    chosen = {"posterior.main": main, "loss.samples": K, "latent_dim": D, "private_dim": own, "loss.partial": "skip"}
    return small("dvcca", schema, **{**chosen, **fields})


def worlds(private: dict[str, int]) -> tuple[LinearGaussian, mvcore.Batch]:
    world = LinearGaussian(SIZES, D, private)
    return world, world.sample(14, observed=all_patterns(3).repeat(2, 1))


def kl(q: DiagonalNormal, p: DiagonalNormal) -> Tensor:
    return kl_divergence(Normal(q.loc, q.scale), Normal(p.loc, p.scale)).sum(-1)


def posterior_of(model: Model, batch: mvcore.Batch, main: str) -> DiagonalNormal:
    """q(z | x_main) of the rows that have it."""
    encoded = model.encoders[main](batch.x[main])
    return DiagonalNormal(encoded.loc, encoded.log_scale)


@MAIN
@BOTH
@pytest.mark.parametrize("beta", [1.0, 2.5])
def test_loss_is_the_likelihood_and_the_divergence_of_the_main_view_s_posterior(
    private: dict[str, int], main: str, beta: float
) -> None:
    """Of each row with it −log p(x_O) + KL(q(z|x_main) ‖ p(z|x_O)), and KL(q(w_m|x_m) ‖ p(w_m|x_m)) of each private."""
    world, batch = worlds(private)
    model = make(world.schema, private, main, **{"loss.beta": beta})
    model.decoders.update(world.decoders())
    q, unit = posterior_of(model, batch, main), lambda p: DiagonalNormal.unit(*p.loc.shape, like=p.loc)
    rows = batch.rows(main)
    law = -world.log_likelihood(batch)[rows] + kl(q, world.posterior(batch)[rows]) + (beta - 1) * kl(q, unit(q))
    total = torch.zeros(14, dtype=torch.float64).index_add(0, rows, law)
    for m in private:
        encoded = model.encoders[m](batch.x[m])
        own = DiagonalNormal(encoded.private_loc, encoded.private_log_scale)
        value = kl(own, world.private_posterior(batch, m)) + (beta - 1) * kl(own, unit(own))
        total = total.index_add(0, batch.rows(m), value)
    with sigma_points():
        output = model(batch)
    torch.testing.assert_close(output.loss, total.where(batch.column(main), 0).mean())
    torch.testing.assert_close(sum(output.terms.values()), output.loss.detach())


@MAIN
@BOTH
def test_nothing_but_the_main_view_moves_the_shared_latent(private: dict[str, int], main: str) -> None:
    world, batch = worlds(private)
    model = make(world.schema, private, main)
    whole, alone = model.embed(batch), model.embed(batch.only([main]))
    torch.testing.assert_close(whole, alone)
    assert not whole[~batch.column(main)].any()  # the prior's mean
    torch.testing.assert_close(whole[batch.column(main)], posterior_of(model, batch, main).loc)


def test_other_views_have_no_encoder_but_of_their_private_latents() -> None:
    world, _ = worlds({})
    shared, private = make(world.schema, {}), make(world.schema, {"a": 1})
    assert {n.split(".")[1] for n, _ in shared.encoders.named_parameters(prefix="e")} == {"b"}
    found = {tuple(n.split(".")[1:3]) for n, _ in private.encoders.named_parameters(prefix="e")}
    assert found == {("a", "private"), ("b", "shared")}


@BOTH
def test_likelihoods_are_those_of_the_model_also_without_the_main_view(private: dict[str, int]) -> None:
    """Importance sampling from the main view's posterior, exact for none of these rows; from the prior without it."""
    world, batch = worlds(private)
    model = make(world.schema, private)
    model.decoders.update(world.decoders())
    model.encoders["b"].shared.head.linear.bias.data[D:] += 1  # wide enough to sample from
    some = batch.select(torch.tensor([0, 1, 2, 6]))
    torch.testing.assert_close(model.log_likelihood(some, 60_000), world.log_likelihood(some), atol=0.5, rtol=0.02)


# Partial rows


@BOTH
def test_rows_with_the_main_view_are_those_of_a_model_on_what_they_have(private: dict[str, int]) -> None:
    world, batch = worlds(private)
    model = make(world.schema, private)
    check_submodels(lambda schema: make(schema, private), model, batch.select(batch.column("b")))
    check_neighbours(model, batch)


def test_rows_without_the_main_view_are_refused_with_their_number() -> None:
    world, batch = worlds({})
    model = make(world.schema, {}, **{"loss.partial": "refuse"})
    words = r"6 of 14 rows lack 'b', the main modality.*loss=\{'partial': 'skip'\}, which is the default"
    with pytest.raises(DataError, match=words):
        model(batch)
    data = MultimodalDataset.from_batch(world.schema, batch)
    with pytest.raises(DataError, match=words):
        mvcore.fit(model, data, epochs=1, progress=False)
    have = data.select(batch.column("b").nonzero().squeeze(1).tolist())
    mvcore.fit(model.float(), single(have), epochs=1, progress=False)
    with pytest.raises(DataError, match="None of 4 rows has 'b', the main modality"):
        mvcore.fit(make(world.schema, {}), MultimodalDataset.from_batch(world.schema, world.sample(
            4, observed=torch.tensor([[True, False, True]]).expand(4, -1))), epochs=1, progress=False)  # fmt: skip


def test_where_few_rows_have_the_main_view_that_is_said() -> None:
    world, batch = worlds({})
    rows = batch.select(torch.cat([(~batch.column("b")).nonzero()[:, 0], batch.rows("b")[:5]]))
    with pytest.warns(UserWarning, match="Only 5 of 11 rows have 'b', the main modality; the others train nothing"):
        make(world.schema, {}).check_training(rows.observed)


def test_skipped_rows_send_no_gradient_and_count_in_the_mean() -> None:
    world, batch = worlds({})
    model = make(world.schema, {})
    have = batch.select(batch.column("b"))
    with sigma_points():
        torch.testing.assert_close(model(batch).loss, model(have).loss * len(have) / 14)


def test_covariates_reach_the_main_view_s_encoder() -> None:
    world, batch = worlds({})
    schema = Schema(world.schema.modalities, (CovariateSpec(name="age"),))
    model = make(schema, {"a": 1})
    told, other = (batch.with_context({"age": torch.arange(14).double() + v}, {}) for v in (0.0, 9.0))
    model.fit_transforms(told)
    moved = (model.embed(told) - model.embed(other)).abs().amax(1) > 1e-7
    assert torch.equal(moved, batch.column("b"))
    assert model(told).loss != model(other).loss


# Configs, files, training


def test_the_first_modality_is_the_main_one_unless_another_is_named() -> None:
    world, _ = worlds({})
    assert mvcore.create("dvcca", world.schema).joint_posterior.main == "a"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"posterior.main": "d"}, r"main: unknown modality 'd' \(the data has a, b, c\)"),
        ({"posterior": "product"}, "dvcca has the posterior 'main_view', got ProductConfig|main_view_elbo is that of"),
        ({"modality_dropout": 0.3}, "modality_dropout hides the main modality"),
        ({"loss.partial": "drop"}, "partial"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(fields: dict[str, object], words: str) -> None:
    world, _ = worlds({})
    with pytest.raises(ConfigError, match=words):
        small("dvcca", world.schema, **fields)


def single(data: MultimodalDataset) -> MultimodalDataset:
    """The data in float32."""
    batch = data.batch()
    return MultimodalDataset.from_batch(
        data.schema, mvcore.Batch({m: x.float() for m, x in batch.x.items()}, batch.observed)
    )


def test_it_is_saved_and_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    class Ending:
        @mvcore.hookimpl
        def mvcore_step_end(self, step: int) -> None:
            if step == 3:
                raise mvcore.StopTraining

    world, batch = worlds(PRIVATE)
    data = single(MultimodalDataset.from_batch(world.schema, batch))
    options = {"epochs": 3, "batch_size": 7, "progress": False, "hooks": False}
    through = mvcore.fit(make(world.schema, PRIVATE).float(), data, **options).model
    kept = {**options, "checkpoint": tmp_path / "run", "checkpoint_steps": 1}
    assert mvcore.fit(make(world.schema, PRIVATE).float(), data, **kept, callbacks=[Ending()]).stopped
    again = mvcore.fit(make(world.schema, PRIVATE).float(), data, **kept, resume=True).model
    assert all(torch.equal(again.state_dict()[k], v) for k, v in through.state_dict().items())
    loaded = mvcore.load(mvcore.save(again, tmp_path / "model"))
    assert torch.equal(loaded.embed(data.batch()), again.embed(data.batch()))
