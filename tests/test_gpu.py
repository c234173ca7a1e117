"""On a CUDA device: every precision trains, resumes bit by bit, and answers as the CPU does. ``pytest -m gpu``."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

import mvcore
from mvcore.data.dataset import MultimodalDataset
from mvcore.distributions.diagonal import DiagonalNormal
from mvcore.errors import TrainingError
from mvcore.losses.base import LossOutput
from mvcore.losses.passes import Pass
from mvcore.models.base import Model
from mvcore.testing.interruption import Stop, StopAfter
from mvcore.testing.noise import fixed_noise
from mvcore.training.graphs import Graphs
from mvcore.training.hooks import hookimpl

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
PRECISIONS = pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])


@pytest.fixture(autouse=True)
def _deterministic(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Deterministic kernels, and the precision that accelerate keeps for a process forgotten afterwards."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
    AcceleratorState._reset_state()


def toy(n: int = 96, seed: int = 0) -> MultimodalDataset:
    """Two views of one latent, and counts; a third of the rows lack the second, a fifth the third."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 2))
    arrays = {
        "a": z @ rng.normal(size=(2, 5)) + 0.3 * rng.normal(size=(n, 5)),
        "b": z @ rng.normal(size=(2, 4)) + 0.3 * rng.normal(size=(n, 4)),
        "c": rng.poisson(np.exp(0.5 * z @ rng.normal(size=(2, 3)))).astype(np.float32),
    }
    masks = {"b": np.arange(n) % 3 > 0, "c": np.arange(n) % 5 > 0}
    return MultimodalDataset(arrays, masks, likelihoods={"c": "poisson"})


def make(subsets: str = "all") -> Model:
    """A mixture of products with dropout of modalities and of units, so that the device's generator matters."""
    torch.manual_seed(0)
    parts = {
        f"modalities.{m}.{part}": {"use": "mlp", "hidden": [16], "dropout": 0.2}
        for m in "abc"
        for part in ("encoder", "decoder")
    }
    fields: dict[str, Any] = {"latent_dim": 3, "private_dim": 1, "modality_dropout": 0.3}
    return mvcore.create("multimodal", toy(), **fields, **{"posterior.subsets": subsets}, **parts)


def fit(model: Model, data: MultimodalDataset | None = None, **options: Any) -> mvcore.Run:
    chosen: dict[str, Any] = {"epochs": 4, "batch_size": 32, "lr": 1e-2, "progress": False, "schedule": "one_cycle"}
    chosen |= {"validation": toy(20, 1), "clip_norm": 1.0, "accumulate": 2, **options}
    return mvcore.fit(model, toy() if data is None else data, **chosen)


@PRECISIONS
def test_the_loss_falls_on_the_device(precision: str) -> None:
    run = fit(make(), precision=precision, epochs=20)
    assert run.model.device.type == "cuda"
    assert all(p.dtype == torch.float32 for p in run.model.parameters())
    assert run.history[-1]["loss"] < 0.9 * run.history[0]["loss"]


@PRECISIONS
@pytest.mark.parametrize("steps", [1, 4, 7])
@pytest.mark.parametrize("accumulate", [1, 2])  # the steps of the first are captured
def test_an_interrupted_training_ends_bit_by_bit_as_one_that_was_not(
    tmp_path: Path, precision: str, steps: int, accumulate: int
) -> None:
    whole = fit(make(), precision=precision, accumulate=accumulate)
    options = {"precision": precision, "accumulate": accumulate, "checkpoint": tmp_path, "checkpoint_steps": 1}
    with pytest.raises(Stop):
        fit(make(), callbacks=[StopAfter(steps)], **options)
    torch.manual_seed(99)
    torch.cuda.manual_seed(98)
    resumed = fit(make(), resume=True, **options)
    assert resumed.history == whole.history
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_the_state_of_the_devices_generator_is_what_a_checkpoint_needs() -> None:
    """Were it left out, the test above would have to fail: the draws of a training do depend on it."""
    model, batch = make().cuda().train(), toy().batch().to("cuda")
    model.fit_transforms(toy())
    losses = []
    for seed in (0, 0, 1):
        torch.manual_seed(0)
        torch.cuda.manual_seed(seed)
        losses.append(model(batch).loss.item())
    assert losses[0] == losses[1] != losses[2]


@PRECISIONS
def test_a_loss_that_is_not_finite_is_named(precision: str) -> None:
    data = toy()
    with pytest.raises(TrainingError, match=r"not finite.*reconstruction/a"):
        fit(make(), data, precision=precision, lr=1e18, clip_norm=None, epochs=8)


@pytest.mark.parametrize("subsets", ["observed", "each", "all"])
def test_loss_gradients_and_answers_are_those_of_the_cpu(subsets: str) -> None:
    data = toy()
    here = make(subsets)
    here.fit_transforms(data)
    here.eval()
    there = copy.deepcopy(here).cuda()
    here, there = here.double(), there.double()
    values = {m: v.double() for m, v in data.batch().x.items()}
    batch = data.batch().with_values(values, data.observed, {})
    with fixed_noise():
        for model in (here, there):
            model.zero_grad(set_to_none=True)
            model(batch.to(model.device)).loss.backward()
    gradients = {n: p.grad for n, p in here.named_parameters()}
    for name, parameter in there.named_parameters():
        if gradients[name] is not None and subsets == "observed":  # a mixture draws its component from the device
            torch.testing.assert_close(parameter.grad.cpu(), gradients[name])  # type: ignore[union-attr]
    torch.testing.assert_close(there.embed(batch).cpu(), here.embed(batch))
    torch.testing.assert_close(there.embed(batch.only(["b"])).cpu(), here.embed(batch.only(["b"])))
    with fixed_noise():
        torch.testing.assert_close(there.log_likelihood(batch, 50).cpu(), here.log_likelihood(batch, 50))


def test_a_trained_model_answers_rows_of_the_host(tmp_path: Path) -> None:
    run, data = fit(make()), toy()
    batch = data.batch()
    assert run.model.impute(batch)["b"].device.type == "cuda"
    assert run.model.encode(batch, 3)["shared"].shape == (3, len(data), 3)
    assert run.model.generate(2, batch)["a"].shape == (2, len(data), 5)
    assert run.model.generate(2)["a"].shape == (2, 5)
    assert run.model.conditional_log_likelihood(batch, ["a"]).shape == (len(data),)
    filled = mvcore.impute(run.model, data, interval=0.9, K=40)
    assert bool((filled["b"].low <= filled["b"].filled).all())
    assert mvcore.embed(run.model, data).shape == (len(data), 3)
    labelled = MultimodalDataset.from_batch(data.schema, batch, labels=[i % 2 for i in range(len(data))])
    report = mvcore.evaluate(run.model, labelled, train=labelled, K=20)
    assert all(np.isfinite(v) for v in report.values.values())
    again = mvcore.load(mvcore.save(run.model, tmp_path / "model"))
    assert again.device.type == "cpu"
    torch.testing.assert_close(again.embed(batch), run.model.embed(batch).cpu(), rtol=1e-4, atol=1e-4)


@PRECISIONS
@pytest.mark.parametrize("subsets", ["observed", "each", "all"])
def test_steps_are_captured(subsets: str, precision: str, caplog: pytest.LogCaptureFixture) -> None:
    """Of each batch size one: 80 rows are two batches of 32 and one of 16. The loss falls as without."""
    options: dict[str, Any] = {"accumulate": 1, "epochs": 20, "precision": precision}
    with caplog.at_level(logging.INFO):
        run = fit(make(subsets), toy(80), **options)
    assert ("operation by operation" in caplog.text) == (precision == "fp16")
    other = fit(make(subsets), toy(80), graphs="off", **options)
    # noise differs: validation losses of 20 rows after 60 steps vary by about a hundredth between seeds
    assert run.history[-1]["validation_loss"] == pytest.approx(other.history[-1]["validation_loss"], rel=0.1)


def without_noise(self: DiagonalNormal, shape: torch.Size) -> torch.Tensor:
    return self.parameters[0].new_zeros(shape)


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("subsets", ["observed", "each", "all"])
def test_a_captured_step_has_the_loss_and_gradients_of_one_that_is_not(subsets: str, on_device: bool) -> None:
    data, accelerator = toy(), Accelerator()
    data = data.to("cuda") if on_device else data
    model = plain(subsets).cuda()
    steps = Graphs(model, accelerator.prepare(model), accelerator, data, "train")
    generator = torch.Generator().manual_seed(0)
    with mock.patch.object(DiagonalNormal, "noise", without_noise):
        for seed in range(4):
            rows = torch.randperm(len(data), generator=generator)[:32]
            torch.manual_seed(seed)
            captured = steps.step(rows, 1.0)
            assert captured is not None
            gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
            model.zero_grad(set_to_none=True)
            torch.manual_seed(seed)
            packed = model(data.batch(rows).to("cuda"), epoch=1.0)
            packed.loss.backward()
            torch.testing.assert_close(captured.loss, packed.loss.detach(), rtol=1e-5, atol=1e-5)
            for name, parameter in model.named_parameters():
                torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-3, atol=1e-5, msg=name)


def plain(subsets: str) -> Model:
    """A model without dropout, so that nothing but latents is drawn."""
    torch.manual_seed(0)
    parts = {f"modalities.{m}.{p}": {"use": "mlp", "hidden": [16]} for m in "abc" for p in ("encoder", "decoder")}
    fields: dict[str, Any] = {"latent_dim": 3, "private_dim": 1, "modality_dropout": 0.0, **parts}
    model = mvcore.create("multimodal", toy(), **fields, **{"posterior.subsets": subsets})
    model.fit_transforms(toy())
    return model.train()


@pytest.mark.parametrize(("data", "most"), [(toy(), 4), (toy(), 1)])
def test_the_host_has_few_threads_while_the_device_trains(data: MultimodalDataset, most: int) -> None:
    seen, before = [], torch.get_num_threads()
    data = data.to("cuda") if most == 1 else data

    class Threads:
        @hookimpl
        def mvcore_step_end(self) -> None:
            seen.append(torch.get_num_threads())

    fit(plain("all"), data, epochs=1, callbacks=[Threads()])
    assert set(seen) == {min(before, most)}
    assert torch.get_num_threads() == before


def test_a_training_on_rows_of_the_device_is_that_on_rows_of_the_host() -> None:
    runs = [fit(plain("all"), data, accumulate=1) for data in (toy(), toy().to("cuda"))]
    assert runs[0].history == runs[1].history


class OnTheHost(torch.nn.Module):
    """A loss of an author that looks at the pattern on the host."""

    def forward(self, p: Pass) -> LossOutput:
        latents = p.draws()
        scored = latents.mean(sum(p.reconstruction(latents).values()))
        return LossOutput(-scored[p.batch.observed.all(1).nonzero().squeeze(1).to(scored.device)].mean())


def test_a_loss_that_cannot_be_captured_trains_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    model = plain("observed")
    model.loss = OnTheHost()
    run = fit(model, accumulate=1, epochs=20)
    assert len([record for record in caplog.records if "can't be captured" in record.message]) == 1
    assert run.history[-1]["loss"] < run.history[0]["loss"]


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("subsets", ["observed", "each", "all"])
def test_no_step_waits_for_the_device(subsets: str, accumulate: int) -> None:
    """The host sends the steps of an epoch ahead; it asks the device once, when the epoch ends."""

    class Strict:
        @hookimpl
        def mvcore_step_end(self, step: int) -> None:
            torch.cuda.set_sync_debug_mode("error" if step % 3 else "default")  # three steps an epoch

    try:
        run = fit(make(subsets), callbacks=[Strict()], clip_norm=None, accumulate=accumulate)
        assert len(run.history) == 4  # a step that waits raises
    finally:
        torch.cuda.set_sync_debug_mode("default")
