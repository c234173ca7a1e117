"""Flows conditioned on embeddings that deep CCA has trained (Senellart et al., 2023)."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

import mvcore
from mvcore.data import Batch, MultimodalDataset
from mvcore.errors import ConfigError, DataError
from mvcore.losses import multiset_correlation
from mvcore.models import Model
from mvcore.testing import LinearGaussian, StopAfter, all_patterns, small

SIZES = {"a": 5, "b": 6, "c": 4}
SHORT = {"joint_hidden": [8], "flow.hidden": [8], "hmc.steps": 4, "hmc.adapt": 2, "hmc.leapfrog": 2}


@pytest.fixture
def world() -> LinearGaussian:
    return LinearGaussian(SIZES, 2)


@pytest.fixture
def batch(world: LinearGaussian) -> Batch:
    return world.sample(70, observed=all_patterns(3).repeat(10, 1))


def make(world: LinearGaussian, dcca: object = None, **fields: object) -> Model:
    return small(
        "jnf", world.schema, dcca={"dimensions": 2, "hidden": [8]} if dcca is None else dcca, **SHORT, **fields
    )


def test_the_stage_maximises_the_correlation_of_the_embeddings_alone(world: LinearGaussian, batch: Batch) -> None:
    model = make(world, {"dimensions": 2, "hidden": [8], "ridge": 0.02})
    codes = {m: model.encoders[m].network(batch.x[m], None, None).loc for m in SIZES}
    output = model(batch, stage="dcca")
    torch.testing.assert_close(output.loss, -multiset_correlation(codes, batch, ridge=0.02))
    torch.testing.assert_close(model(batch).loss, output.loss)  # it is the first
    output.loss.backward()
    reached = {name.split(".")[2] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {"network"}


@pytest.mark.parametrize("stage", ["joint", "flows"])
def test_the_other_stages_send_the_embeddings_no_gradient(world: LinearGaussian, batch: Batch, stage: str) -> None:
    model = make(world)
    model(batch, stage=stage).loss.backward()
    assert all(p.grad is None for m in SIZES for p in model.encoders[m].network.parameters())
    assert all(p.grad is not None for m in SIZES for p in model.encoders[m].head.parameters())


def test_linear_embeddings_reach_classical_gcca(world: LinearGaussian) -> None:
    """The D greatest eigenvalues of Σ_m P_m, the projections on the span of each table."""
    rows = world.sample(80)
    model = make(world, {"dimensions": 2, "hidden": [8], "ridge": 1e-9},
                 **{f"modalities.{m}.encoder.hidden": [] for m in SIZES})  # fmt: skip
    search = torch.optim.LBFGS(model.encoders.parameters(), max_iter=400, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        search.zero_grad()
        loss = model(rows, stage="dcca").loss
        loss.backward()
        return loss

    before = float(closure().detach())
    search.step(closure)
    bases = [np.linalg.qr(x.numpy() - x.numpy().mean(0))[0] for x in rows.x.values()]
    values = np.linalg.eigvalsh(sum(q @ q.T for q in bases))[::-1]
    expected = -float((values[:2] - 1).sum() / 2)
    assert before > expected + 0.05
    assert float(closure().detach()) == pytest.approx(expected, abs=1e-5)


def test_a_flow_sees_nothing_of_its_modality_but_the_embedding(world: LinearGaussian, batch: Batch) -> None:
    """What a linear embedding of five values into two does not see moves no posterior."""
    model = make(world, **{"modalities.a.encoder.hidden": []})
    weight = model.encoders["a"].network.head.linear.weight[:2].detach()
    blind = torch.linalg.svd(weight)[2][3]
    one = batch.only(["a"]).select(batch.column("a"))
    moved = Batch({"a": one.x["a"] + 5 * blind}, one.observed)
    seen = Batch({"a": one.x["a"] + weight[0]}, one.observed)
    z = torch.randn(3, len(one), 2, dtype=torch.float64)
    density, same, other = (model.encode_modalities(b).experts["a"].log_prob(z) for b in (one, moved, seen))
    torch.testing.assert_close(same, density)
    assert (other - density).abs().max() > 1e-3


def test_stages_follow_each_other_and_leave_what_they_do_not_train(world: LinearGaussian, batch: Batch) -> None:
    model, states = make(world).float(), []
    model.register_forward_pre_hook(
        lambda module, *_: states.append({k: v.clone() for k, v in module.state_dict().items()})
    )
    run = mvcore.fit(model, single(world, batch), epochs=8, batch_size=35, lr=1e-2, progress=False, hooks=False)
    assert [row["stage"] for row in run.history] == ["dcca"] * 2 + ["joint"] * 3 + ["flows"] * 3
    ends = [states[0], states[4], states[10], model.state_dict()]  # two steps an epoch
    moved = [
        {".".join(k.split(".")[:1] + k.split(".")[2:3]) if k.startswith("encoders") else k.split(".")[0]
         for k in after if not torch.equal(after[k], before[k])}
        for before, after in pairwise(ends)
    ]  # fmt: skip
    assert moved == [
        {"encoders.network"},
        {"encoders.head", "flows", "decoders", "joint_encoder"},
        {"encoders.head", "flows"},
    ]
    assert run.history[1]["correlation"] < run.history[0]["correlation"]


@pytest.mark.parametrize("step", [1, 4, 7])
def test_a_training_that_was_stopped_in_any_stage_goes_on_to_the_same_weights(
    world: LinearGaussian, batch: Batch, tmp_path: Path, step: int
) -> None:
    data, options = single(world, batch), {"epochs": 4, "batch_size": 35, "progress": False, "hooks": False}
    through = mvcore.fit(make(world).float(), data, **options).model.state_dict()
    kept = {**options, "checkpoint": tmp_path, "checkpoint_steps": 1}
    stop = StopAfter(step - 1, mvcore.StopTraining)
    assert mvcore.fit(make(world).float(), data, **kept, callbacks=[stop]).stopped
    again = mvcore.fit(make(world).float(), data, **kept, resume=True).model.state_dict()
    assert all(torch.equal(again[k], v) for k, v in through.items())


def test_it_is_saved_with_its_embeddings(world: LinearGaussian, batch: Batch, tmp_path: Path) -> None:
    model = make(world)
    again = mvcore.load(mvcore.save(model, tmp_path / "model"))
    assert again.config == model.config
    torch.testing.assert_close(again.embed(batch), model.embed(batch))


def test_rows_that_tell_no_correlation_are_refused_before_any_work(world: LinearGaussian) -> None:
    observed = torch.eye(3, dtype=torch.bool).repeat(10, 1)
    observed[:2] = True  # two complete rows
    data = single(world, world.sample(30, observed=observed))
    with (
        pytest.warns(UserWarning, match="Only 2 of 30 rows are complete"),
        pytest.raises(DataError, match="No two of a, b, c are together in more than 3 of 30 rows"),
    ):
        mvcore.fit(make(world).float(), data, epochs=3, progress=False)


def test_without_it_the_model_is_what_it_was(world: LinearGaussian) -> None:
    model = small("jnf", world.schema, **SHORT)
    assert [stage.name for stage in model.stages()] == ["joint", "flows"]
    assert sum(stage.share for stage in model.stages()) == 1
    with pytest.raises(DataError, match="has the stages 'joint' and 'flows', not 'dcca'"):
        model(world.sample(3), stage="dcca")


@pytest.mark.parametrize(("table", "words"), [({"dimensions": 0}, "dimensions"), ({"share": 1.0}, "share"),
                                              ({"ridge": 0.0}, "ridge"), ({"hidden": []}, "hidden")])  # fmt: skip
def test_what_does_not_fit_is_refused(world: LinearGaussian, table: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=f"dcca.*{words}"):
        make(world, table)


def single(world: LinearGaussian, batch: Batch) -> MultimodalDataset:
    """The rows in float32."""
    return MultimodalDataset.from_batch(world.schema, Batch({m: x.float() for m, x in batch.x.items()}, batch.observed))
