"""JNF as a plugin: configs, data it takes and refuses, training, files, and a real data set."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import mvcore
from mvcore.cli import main
from mvcore.data import ModalitySpec, MultimodalDataset, Schema
from mvcore.testing import check_no_rows, fixed_noise
from mvcore_jnf import HMCConfig

SMALL = {"latent_dim": 2, "joint_hidden": [8], "flow.hidden": [8], "hmc.steps": 4, "hmc.adapt": 2, "hmc.leapfrog": 2}


def toy(n: int = 60, missing: float = 0.4) -> MultimodalDataset:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(n, 2))
    arrays = {
        m: (z @ rng.normal(size=(2, d)) + 0.1 * rng.normal(size=(n, d))).astype("f4")
        for m, d in [("a", 4), ("b", 3), ("c", 5)]
    }
    data = MultimodalDataset(arrays)
    return mvcore.mcar(data, missing, seed=0) if missing else data


def small(data: MultimodalDataset | Schema, **fields: object) -> mvcore.MultimodalVAE:
    names = data.names if isinstance(data, Schema) else data.schema.names
    widths = {f"modalities.{m}.{part}.hidden": [16] for m in names for part in ("encoder", "decoder")}
    torch.manual_seed(0)
    return mvcore.create("jnf", data, **{**SMALL, **widths, **fields})


def test_fit_runs_both_stages_on_partial_rows_and_the_second_leaves_the_joint_vae_alone() -> None:
    data, states = toy(), []
    model = small(data)
    keep = lambda module, *_: states.append({k: v.clone() for k, v in module.state_dict().items()})  # noqa: E731
    model.register_forward_pre_hook(keep)
    stages = ("joint", "flows")
    model.fit_transforms(data)
    with fixed_noise():
        before = [model(data.batch(), stage=stage).loss for stage in stages]
    del states[:]
    run = mvcore.fit(model, data, epochs=24, batch_size=20, lr=1e-2, progress=False)
    assert [row["stage"] for row in run.history] == ["joint"] * 12 + ["flows"] * 12
    after, end = states[36], model.state_dict()  # 3 batches for each of 12 epochs
    moved = {k.split(".")[0] for k in end if not torch.equal(end[k], after[k])}
    assert moved == {"encoders", "flows"}
    with fixed_noise():
        for stage, loss in zip(stages, before, strict=True):
            assert model(data.batch(), stage=stage).loss < loss - 0.5


def test_complete_rows_train_a_model_that_refuses_partial_ones() -> None:
    model = small(toy(missing=0), partial="refuse")
    run = mvcore.fit(model, toy(missing=0), epochs=2, batch_size=20, progress=False)
    assert [row["stage"] for row in run.history] == ["joint", "flows"]
    assert not {"kl", "reconstruction/a"} & set(run.history[1])
    check_no_rows(model, toy(missing=0).batch())
    with pytest.raises(ValueError, match=r"rows lack a modality.*partial='refuse'"):
        model(toy().batch())
    assert model.embed(toy().batch()).isfinite().all()  # inference takes partial rows all the same


def test_data_without_complete_rows_is_refused_and_with_few_warned_about() -> None:
    model, observed = small(toy()), torch.ones(100, 3, dtype=torch.bool)
    model.check_training(observed)
    observed[9:, 1] = False
    with pytest.warns(UserWarning, match="Only 9 of 100 rows are complete"):
        model.check_training(observed)
    observed[:, 1] = False
    with pytest.raises(ValueError, match="None of 100 rows has all of a, b, c"):
        model.check_training(observed)
    lacking = toy(missing=0).hide(torch.eye(3, dtype=torch.bool).repeat(20, 1))
    with pytest.raises(ValueError, match="None of 60 rows"):
        mvcore.fit(model, lacking, epochs=1, progress=False)
    with pytest.raises(ValueError, match="partial='refuse'"):
        small(toy(), partial="refuse").check_training(observed)


def test_images_categories_and_tables_with_unknown_cells_meet_in_the_joint_encoder() -> None:
    rng = np.random.default_rng(0)
    known = rng.random((12, 4)) < 0.7
    known[:, 0] = True
    data = MultimodalDataset(
        {
            "image": rng.random((12, 3, 9, 8), dtype="f4"),
            "label": rng.integers(0, 4, (12, 1)),
            "table": rng.normal(size=(12, 4)),
        },
        masks={"image": np.arange(12) % 3 > 0, "label": np.arange(12) % 4 > 0},
        cells={"table": known},
    )
    torch.manual_seed(0)
    model = mvcore.create("jnf", data, **SMALL)
    model.fit_transforms(data)
    check_no_rows(model, data.batch())
    for stage in ("joint", "flows"):
        model.zero_grad()
        output = model(data.batch(), stage=stage)
        output.loss.backward()
        assert output.loss.isfinite()
    model.zero_grad()
    model(data.batch()).loss.backward()
    assert all(p.grad.any() for p in model.joint_encoder.networks["image"].parameters())
    assert model.impute(data.batch(), K=2)["label"].shape == (12, 1)


def test_describe_says_what_becomes_of_partial_rows() -> None:
    result = CliRunner().invoke(main, ["describe", "jnf"])
    assert result.exit_code == 0, result.output
    assert "Complete rows train the joint encoder" in " ".join(result.output.split())
    assert "hmc" in result.output


def test_adaptation_must_end_before_the_draws() -> None:
    with pytest.raises(ValueError, match="adapt must be at most steps"):
        HMCConfig(steps=10, adapt=11)


def test_unknown_stage_is_refused() -> None:
    with pytest.raises(ValueError, match="'joint' and 'flows', not 'joint_vae'"):
        small(toy())(toy().batch(), stage="joint_vae")


def test_one_modality_is_a_complete_row() -> None:
    model = small(Schema((ModalitySpec(name="a", shape=(3,), likelihood="normal"),)))
    data = mvcore.Batch.from_dense({"a": torch.randn(5, 3)})
    model.fit_transforms(data)
    assert model.encode_modalities(data).joint is not None
    assert not len(model.posterior(model.encode_modalities(data)).rows)


@pytest.mark.slow
@pytest.mark.parametrize("dcca", [None, {"hidden": [128]}], ids=["modalities", "embeddings"])
def test_mfeat_with_a_third_missing_keeps_the_digits_and_imputes_every_view(dcca: dict[str, object] | None) -> None:
    train, test = mvcore.dataset("mfeat").split(0.8, seed=0)
    widths = {f"modalities.{m}.{p}.hidden": [128] for m in train.schema.names for p in ("encoder", "decoder")}
    widths |= {"joint_hidden": [256], "flow.hidden": [64, 64]}
    torch.manual_seed(0)
    model = mvcore.create(
        "jnf", train, dcca=dcca, **widths,
        **{"flow.kind": "coupling", "hmc.steps": 20, "hmc.adapt": 10, "point_draws": 8},
    )  # fmt: skip
    partial = mvcore.mcar(train, 0.3, seed=0)
    mvcore.fit(model, partial, epochs=30, progress=False)
    report = mvcore.evaluate(model, test, train=partial, metrics=[{"use": "linear_probe", "sizes": [6]}])
    assert report.values["linear_probe/observed"] >= 0.95
    some = test.batch(torch.arange(30))
    for m in train.schema.names:
        seen = train.batch().x[m]
        spread = (seen.amax(0) - seen.amin(0)).clamp(min=1e-6)  # features scaled to 0 … 1
        error = (model.impute(some.without([m]), K=4)[m] - some.x[m]) / spread
        assert error.square().sum() < ((seen.mean(0) - some.x[m]) / spread).square().sum(), m
