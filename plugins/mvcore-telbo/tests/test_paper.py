"""The laws of TELBO (Vedantam et al., 2018): on linear maps, whose posteriors are known, with arbitrary encoders."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

import mvcore
from mvcore.data import MultimodalDataset
from mvcore.distributions import DiagonalNormal
from mvcore.errors import ConfigError, DataError
from mvcore.models import Model
from mvcore.testing import (
    LinearGaussian,
    all_patterns,
    check_no_rows,
    sigma_points,
    small,
)
from mvcore.training import hookimpl

SIZES = {"a": 5, "b": 6, "c": 4}
D = 2
PATTERNS = all_patterns(3).repeat(2, 1)
STAGES = pytest.mark.parametrize("stages", ["two", "one"])


@pytest.fixture
def world() -> LinearGaussian:
    return LinearGaussian(SIZES, D)


def make(world: LinearGaussian, **fields: object) -> Model:
    """A TELBO with exact decoders and random small encoders, in float64."""
    model = small("telbo", world.schema, **{"joint_hidden": [8], "samples": 2 * D, **fields})
    model.decoders.update(world.decoders())
    return model


def exact(world: LinearGaussian, **fields: object) -> Model:
    """The same with p(z | x_m) and p(z | X) for encoders."""
    model = make(world, **fields)
    model.encoders.update(world.encoders("posterior"))
    model.joint_encoder = world.joint_encoder()
    return model


def partial_data(world: LinearGaussian, n: int, *, seed: int = 1) -> MultimodalDataset:
    """Rows of every pattern in turn."""
    batch = world.sample(n, observed=all_patterns(3)[torch.arange(n) % 7], seed=seed)
    return MultimodalDataset.from_batch(world.schema, batch)


def kl(q: DiagonalNormal, p: DiagonalNormal) -> Tensor:
    return kl_divergence(Normal(q.loc, q.scale), Normal(p.loc, p.scale)).sum(-1)


def prior_of(q: DiagonalNormal) -> DiagonalNormal:
    return DiagonalNormal.unit(*q.loc.shape, like=q.loc)


def gradients(model: Model, loss: Tensor) -> dict[str, Tensor]:
    """The gradients that are not 0."""
    model.zero_grad(set_to_none=True)
    loss.backward()
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None and bool(p.grad.any())}


def bounds_of_surrogates(world: LinearGaussian, model: Model, batch: mvcore.Batch, gamma: dict[str, float]) -> Tensor:
    """Σ_m γ_m [−log p(x_m) + KL(q_m‖p(z|x_m)) − KL(q_m‖p)] + KL(q_m‖p) over what each row has, ``(B,)``."""
    total = torch.zeros(len(batch)).double()
    for m, q in model.encode_modalities(batch).experts.items():
        rows = batch.rows(m)
        reconstruction = kl(q, world.posterior(batch, [m]).take(rows)) - kl(q, prior_of(q))
        reconstruction = reconstruction - world.log_likelihood(batch, [m])[rows]
        total = total.index_add(0, rows, gamma[m] * reconstruction + kl(q, prior_of(q)))
    return total


# The second stage


@pytest.mark.parametrize("gamma", [{}, {"a": 10.0, "c": 0.5}])
def test_second_stage_is_the_bound_of_each_modality_alone(world: LinearGaussian, gamma: dict[str, float]) -> None:
    batch, model = world.sample(14, observed=PATTERNS), make(world, gamma=gamma)
    law = bounds_of_surrogates(world, model, batch, {"a": 1.0, "b": 1.0, "c": 1.0, **gamma})
    with sigma_points():
        torch.testing.assert_close(model(batch, stage="surrogates").loss, law.mean())


def test_gamma_multiplies_the_weight_of_the_modality(world: LinearGaussian) -> None:
    batch = world.sample(14, observed=PATTERNS)
    model = make(world, gamma=5.0, **{"modalities.b.weight": 3.0})
    law = bounds_of_surrogates(world, model, batch, {"a": 5.0, "b": 15.0, "c": 5.0})
    with sigma_points():
        torch.testing.assert_close(model(batch, stage="surrogates").loss, law.mean())


def test_second_stage_sends_no_gradient_to_the_joint_vae(world: LinearGaussian) -> None:
    model = make(world)
    found = gradients(model, model(world.sample(14, observed=PATTERNS), stage="surrogates").loss)
    assert {name.partition(".")[0] for name in found} == {"encoders"}
    assert {name.split(".")[1] for name in found} == set(SIZES)
    assert all(p.requires_grad for p in model.parameters())


def test_exact_posteriors_are_the_optimum_of_the_second_stage(world: LinearGaussian) -> None:
    """Precision 1 + λ_m, mean λ_m/(1 + λ_m) of the expert's: no gradient, and the loss is −Σ_m log p(x_m)."""
    batch, model = world.sample(14, observed=PATTERNS), exact(world)
    law = -sum(world.log_likelihood(batch, [m]) for m in SIZES)
    with sigma_points():
        loss = model(batch, stage="surrogates").loss
        torch.testing.assert_close(loss, law.mean())
        loss.backward()
    for m in SIZES:
        precision = model.surrogates(batch)[m].scale ** -2
        torch.testing.assert_close(precision, (1 + world.precision(m)).expand_as(precision))
        gradient = model.encoders[m].b.grad
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-10, rtol=0)


# The first stage, and a single one


def test_complete_rows_have_the_joint_bound_with_the_weights_of_the_modalities(world: LinearGaussian) -> None:
    batch, model = world.sample(8), make(world)
    q = model.encode_modalities(batch).joint
    law = -world.log_likelihood(batch) + kl(q, world.posterior(batch))
    with sigma_points():
        torch.testing.assert_close(model(batch, stage="joint").loss, law.mean())
        weighted = make(world, **{"modalities.b.weight": 3.0})(batch, stage="joint").terms
        plain = model(batch).terms  # the first stage is what a loop without stages trains
    for name, value in plain.items():
        torch.testing.assert_close(weighted[name], (3 if name == "reconstruction/b" else 1) * value)


@pytest.mark.parametrize("subsets", ["exact", "product"])
def test_a_partial_row_is_the_likelihood_and_the_divergence_of_its_product(world: LinearGaussian, subsets: str) -> None:
    batch = world.sample(12, observed=all_patterns(3)[:-1].repeat(2, 1))
    model = make(world, subsets=subsets)
    q = model.posterior(model.encode_modalities(batch)).shared.components[0]
    law = -world.log_likelihood(batch) + kl(q, world.posterior(batch))
    with sigma_points():
        torch.testing.assert_close(model(batch, stage="joint").loss, law.mean())


def test_the_official_single_stage_is_the_sum_of_both(world: LinearGaussian) -> None:
    batch = world.sample(14, observed=PATTERNS)
    one, two = make(world, stages="one", gamma=3.0), make(world, gamma=3.0)
    assert [s.name for s in one.stages()] == ["train"]
    with sigma_points():
        law = two(batch, stage="joint").loss + two(batch, stage="surrogates").loss
        torch.testing.assert_close(one(batch).loss, law)
        torch.testing.assert_close(one(batch, stage="train").loss, law)


def test_a_single_stage_stops_gradients_at_the_decoders_and_lets_those_of_z_pass(world: LinearGaussian) -> None:
    """Decoders and joint encoder learn as in the first stage; on complete rows surrogates as in the second."""
    for batch in (world.sample(8), world.sample(14, observed=PATTERNS)):
        one, two = make(world, stages="one"), make(world)
        with sigma_points():
            whole = gradients(one, one(batch).loss)
            joint = gradients(two, two(batch, stage="joint").loss)
            alone = gradients(two, two(batch, stage="surrogates").loss)
        assert set(whole) == {n for n, _ in one.named_parameters()}
        for name, gradient in whole.items():
            expected = [part[name] for part in (joint, alone) if name in part]
            torch.testing.assert_close(gradient, torch.stack(expected).sum(0))
            if not name.startswith("encoders"):
                torch.testing.assert_close(gradient, joint[name])
        assert batch.complete == (not any(name.startswith("encoders") for name in joint))


def test_complete_rows_run_no_surrogate_in_the_first_stage(world: LinearGaussian) -> None:
    batch, model, rows = world.sample(14, observed=PATTERNS), make(world), {}
    for name, encoder in model.encoders.items():
        encoder.register_forward_pre_hook(lambda _, args, name=name: rows.update({name: len(args[0])}))
    model(batch, stage="joint")
    assert rows == {m: len(batch.x[m]) - 2 for m in SIZES}  # two rows are complete


# Subsets


def test_exact_surrogates_give_the_exact_posterior_of_every_subset(world: LinearGaussian) -> None:
    batch, model = world.sample(6), exact(world)
    encodings = model.encode_modalities(batch)
    for size in range(4):
        for given in combinations(SIZES, size):
            q, truth = model.posterior(encodings.only(given)).shared.components[0], world.posterior(batch, given)
            torch.testing.assert_close(q.loc, truth.loc)
            torch.testing.assert_close(q.scale, truth.scale)


@pytest.mark.parametrize("names", [("a", "b", "c"), ("a", "c"), ("b",)])
def test_with_exact_encoders_one_draw_is_the_exact_likelihood(world: LinearGaussian, names: tuple[str, ...]) -> None:
    batch, model = world.sample(6).only(names), exact(world, gamma=7.0)
    torch.testing.assert_close(model.log_likelihood(batch, 1), world.log_likelihood(batch))


# Training


class Interrupt:
    """Ends a training in its midst."""

    def __init__(self, step: int) -> None:
        self.at = step

    @hookimpl
    def mvcore_step_end(self, step: int) -> None:
        if step == self.at:
            raise KeyboardInterrupt


def untrained(world: LinearGaussian, **fields: object) -> Model:
    """A TELBO with random small encoders and decoders."""
    return small("telbo", world.schema, joint_hidden=[8], **fields)


def test_the_second_stage_leaves_the_joint_vae_as_the_first_left_it(world: LinearGaussian) -> None:
    model, states = untrained(world), []
    keep = lambda module, *_: states.append({k: v.clone() for k, v in module.state_dict().items()})  # noqa: E731
    model.register_forward_pre_hook(keep)
    run = mvcore.fit(model, partial_data(world, 35), epochs=6, batch_size=7, lr=1e-2, progress=False, hooks=False)
    assert [row["stage"] for row in run.history] == ["joint"] * 3 + ["surrogates"] * 3
    first, end = states[15], model.state_dict()  # 5 batches for each of 3 epochs
    assert {k.partition(".")[0] for k in end if not torch.equal(end[k], first[k])} == {"encoders"}
    assert {k.partition(".")[0] for k in end if not torch.equal(first[k], states[0][k])} == {
        "encoders", "decoders", "joint_encoder",
    }  # fmt: skip


def test_the_best_epoch_is_that_of_the_last_stage_though_the_first_has_lower_losses(world: LinearGaussian) -> None:
    """A learning rate so high that both stages get worse in the end, so that no best epoch is the last."""
    train, validation = partial_data(world, 70), partial_data(world, 35, seed=2)
    model = untrained(world, gamma=3.0)
    run = mvcore.fit(model, train, validation=validation, epochs=16, batch_size=35, lr=0.1, progress=False, hooks=False)
    losses = {s: [r["validation_loss"] for r in run.history if r["stage"] == s] for s in ("joint", "surrogates")}
    assert min(losses["joint"]) < min(losses["surrogates"])
    assert all(min(of_stage) < of_stage[-1] for of_stage in losses.values())
    torch.manual_seed(0)  # as the loop draws where it validates
    with torch.no_grad():
        kept = float(run.model(validation.batch(), stage="surrogates").loss)
    assert kept == pytest.approx(min(losses["surrogates"]))


@STAGES
def test_a_training_that_was_stopped_in_a_stage_goes_on_to_the_same_weights(
    world: LinearGaussian, tmp_path: Path, stages: str
) -> None:
    data, options = partial_data(world, 35), {"epochs": 4, "batch_size": 7, "progress": False, "hooks": False}
    through = mvcore.fit(untrained(world, stages=stages), data, **options).model.state_dict()
    for steps in (7, 13):  # 10 steps a stage
        folder, model = tmp_path / str(steps), untrained(world, stages=stages)
        kept = {"checkpoint": folder, "checkpoint_steps": 1}
        with pytest.raises(KeyboardInterrupt):
            mvcore.fit(model, data, **options, **kept, callbacks=[Interrupt(steps)])
        model = untrained(world, stages=stages)
        again = mvcore.fit(model, data, **options, **kept, resume=True).model.state_dict()
        assert all(torch.equal(again[k], v) for k, v in through.items())


# Partial rows, and what every model promises


def test_partial_rows_are_refused_where_that_was_asked_for(world: LinearGaussian) -> None:
    model, partial = make(world, partial="refuse"), world.sample(14, observed=PATTERNS)
    for stage in ("joint", "surrogates"):
        with pytest.raises(DataError, match=r"12 of 14 rows lack a modality.*partial='refuse'.*partial='elbo'"):
            model(partial, stage=stage)
    assert model.embed(partial).isfinite().all()


def test_complete_rows_train_the_surrogates_in_the_second_stage_alone_where_no_others_are_taken(
    world: LinearGaussian,
) -> None:
    model = untrained(world, partial="refuse")
    assert model.stages()[0].frozen == (model.encoders,)
    data = MultimodalDataset.from_batch(world.schema, world.sample(20))
    run = mvcore.fit(model, data, epochs=2, batch_size=10, progress=False, hooks=False)
    assert [row["stage"] for row in run.history] == ["joint", "surrogates"]
    check_no_rows(make(world, partial="refuse"), world.sample(6))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"gamma": {"d": 2.0}}, r"gamma: unknown modality 'd' \(the data has a, b, c\)"),
        ({"gamma": 0.0}, "gamma must be greater than 0, got 0.0"),
        ({"gamma": {"a": -1.0}}, "gamma must be greater than 0, got -1"),
        ({"joint_share": 1.0}, "joint_share"),
        ({"stages": "three"}, "stages"),
        ({"joint_hidden": []}, "joint_hidden"),
        ({"samples": 0}, "samples"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(
    world: LinearGaussian, fields: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        make(world, **fields)


def test_unknown_stages_are_refused(world: LinearGaussian) -> None:
    batch = world.sample(3)
    with pytest.raises(DataError, match="has the stages 'joint', 'surrogates', not 'train'"):
        make(world)(batch, stage="train")
    with pytest.raises(DataError, match="has the stages 'train', not 'joint'"):
        make(world, stages="one")(batch, stage="joint")
