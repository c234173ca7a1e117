"""What a component of each kind must do, as plain functions: the suites and ``mvcore check`` run the same ones."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, final

import torch

import mvcore
from mvcore import config as configs
from mvcore.data.batch import Batch
from mvcore.data.dataset import MultimodalDataset
from mvcore.data.schema import Schema
from mvcore.models.base import Model
from mvcore.plugins.registry import Registry
from mvcore.plugins.spec import ComponentConfig
from mvcore.testing import checks, components
from mvcore.testing.cells import cells
from mvcore.testing.density import density
from mvcore.testing.linear import LinearGaussian
from mvcore.testing.networks import moments, network, normalised
from mvcore.testing.order import batch_order, order, views
from mvcore.testing.padded import padding
from mvcore.testing.ranks import ranks
from mvcore.testing.small_models import small_fields
from mvcore.testing.told import covariates

Check = Callable[["Case"], None]
#: The parts of each modality of a checked model: no transforms, small networks, all else as it is by default.
_PARTS = {"input": "none", "target": "none", "encoder.hidden": [8], "decoder.hidden": [8]}


@final
class Case:
    """A component with some fields of its config, on a small world of three partially observed modalities.

    Args:
        kind: A key of ``KINDS``.
        component: ``name`` or ``dist:name``.
        fields: Fields by name or dotted path, as for ``mvcore.create``.
        shapes: Of a network, the shapes of the observations that it must take; None for any of some.
    """

    def __init__(
        self,
        kind: str,
        component: str,
        fields: Mapping[str, Any] | None = None,
        shapes: Sequence[Sequence[int]] | None = None,
    ) -> None:
        self.kind, self.component, self.fields, self.shapes = kind, component, dict(fields or {}), shapes
        self.registry = Registry.installed()
        self.spec = self.registry.spec(kind, component)
        self.world = LinearGaussian({"a": 5, "b": 6, "c": 4}, 2)
        self.batch = self.world.sample(14, observed=checks.all_patterns(3).repeat(2, 1))

    @cached_property
    def config(self) -> ComponentConfig:
        """The component's config; a model's for the whole world."""
        if self.kind == "model":
            config = self.make(self.world.schema).config
            assert config is not None, "the builder gave a model without its config, which could not be saved"
            return config
        return configs.edit(self.spec.config(), self.fields, self.registry)

    def make(self, schema: Schema) -> Model:
        """The model for some modalities, small and in float64."""
        torch.manual_seed(0)
        fields = {**small_fields(self.component, schema, _PARTS), **self.fields}
        return mvcore.create(self.component, schema, **fields).double()

    def stirred(self, schema: Schema | None = None) -> Model:
        """The model for some modalities, or all, with weights away from their start: flows that bend, scales not 1."""
        model, generator = self.make(schema or self.world.schema), torch.Generator().manual_seed(1)
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(0.1 * torch.randn(weight.shape, dtype=weight.dtype, generator=generator))
        return model

    def build(self, **arguments: Any) -> Any:
        """What the builder makes of the config."""
        torch.manual_seed(0)
        return self.spec.builder()(self.config, **arguments)


@lru_cache(maxsize=256)
def _imports_torch(module: str) -> str:
    code = f"import sys, {module}; print('torch' in sys.modules)"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def spec_without_torch(case: Case) -> None:
    """The module of the spec imports no torch."""
    module = case.registry.find(case.kind, case.component).point.module
    assert _imports_torch(module) == "False", f"importing {module} imports torch; only the builder's module may"


def config_round_trip(case: Case) -> None:
    """A config comes back from JSON as it was."""
    text = json.dumps(configs.unstructure(case.config, case.registry))
    again = configs.structure(case.kind, json.loads(text), case.registry)
    assert again == case.config, f"{case.config!r} came back from JSON as {again!r}"


def submodels(case: Case) -> None:
    """A row has the loss and gradients of a model built on its modalities alone."""
    checks.check_submodels(case.make, case.stirred(), case.batch)


def neighbours(case: Case) -> None:
    """A row's loss and embedding do not depend on the other rows, in any stage."""
    model = case.stirred()
    for stage in model.stages():
        checks.losses_alone(model, case.batch, stage.name)
    checks.embeddings_alone(model, case.batch)


def absent_values(case: Case) -> None:
    """What stands behind an absent modality, NaN or a number, changes nothing."""
    model, x, losses = case.stirred(), {}, []
    masks = {m: case.batch.column(m) for m in case.batch.names}
    for filling in (torch.nan, 1e30):
        for m in case.batch.names:
            x[m] = torch.full((len(case.batch), *case.batch.x[m].shape[1:]), filling, dtype=torch.float64)
            x[m][masks[m]] = case.batch.x[m]
        torch.manual_seed(0)  # a training may draw what it drops
        losses.append(model(Batch.from_dense(x, masks)).loss.detach())
    assert losses[0].isfinite(), f"the loss of partial rows is {losses[0]}"
    assert torch.equal(*losses), f"what stands behind absent modalities changes the loss: {losses}"


def subsets(case: Case) -> None:
    """Every subset of modalities gives finite draws, likelihoods and imputations."""
    checks.check_conditions_on_every_subset(case.stirred(), case.batch)


def state(case: Case) -> None:
    """Inference leaves modes, weights, batch and random state alone, and repeats itself."""
    checks.check_leaves_state_alone(case.stirred(), case.batch)


def no_rows(case: Case) -> None:
    """Batches of 0 rows reach every parameter."""
    checks.check_no_rows(case.stirred(), case.batch)


def gradients(case: Case) -> None:
    """Each parameter that a stage trains gets a finite gradient that is not 0, in one of the stages."""
    model, reached = case.stirred(), set()
    for stage in model.stages():
        model.zero_grad(set_to_none=True)
        model(case.batch, stage=stage.name).loss.backward()
        grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        bad = [n for n, g in grads.items() if not g.isfinite().all()]
        assert not bad, f"gradients of {bad} are not finite"
        reached |= {n for n, g in grads.items() if g.any()}
    missed = [n for n, p in model.named_parameters() if p.requires_grad and n not in reached]
    assert not missed, f"no loss reaches {missed}"


def weights_round_trip(case: Case) -> None:
    """A loaded model has the config, the weights and the embeddings of the saved one."""
    model = case.stirred().float().eval()
    with tempfile.TemporaryDirectory() as folder:
        again = mvcore.load(mvcore.save(model, Path(folder) / "model"))
    assert again.config == model.config, "the config has changed"
    changed = [k for k, v in model.state_dict().items() if not torch.equal(again.state_dict()[k], v)]
    assert not changed, f"the weights {changed} have changed"
    batch = _single(case.batch)
    assert torch.equal(model.embed(batch), again.embed(batch)), "the embeddings have changed"


def training(case: Case) -> None:
    """The loss of a toy set falls, and the training is repeatable."""
    torch.manual_seed(0)
    batch, runs = case.world.sample(40, observed=checks.all_patterns(3)[torch.arange(40) % 7]), []
    data = MultimodalDataset.from_batch(case.world.schema, _single(batch))
    for _ in range(2):
        model = case.make(case.world.schema).float()
        runs.append(mvcore.fit(model, data, epochs=12, batch_size=20, lr=1e-2, progress=False, hooks=False).history)
    first, again = [[row["loss"] for row in run] for run in runs]
    assert first == again, "two trainings with one seed differ"
    stage = [row["loss"] for row in runs[0] if row["stage"] == runs[0][0]["stage"]]
    assert stage[-1] < stage[0], f"the loss did not fall: {stage}"


def device(case: Case) -> None:
    """On a CUDA device every stage trains, every subset conditions, and inference leaves the states alone."""
    model, batch = case.stirred().cuda(), case.batch.to("cuda")
    for stage in model.stages():
        model.zero_grad(set_to_none=True)
        model(batch, stage=stage.name).loss.backward()
        bad = [n for n, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
        assert not bad, f"gradients of {bad} are not finite"
    checks.check_conditions_on_every_subset(model, case.batch)
    states = torch.cuda.get_rng_state()
    checks.check_leaves_state_alone(model, case.batch)
    assert torch.equal(states, torch.cuda.get_rng_state()), "the random state of the device has changed"


def _single(batch: Batch) -> Batch:
    return Batch({m: v.float() for m, v in batch.x.items()}, batch.observed)


_MODEL: tuple[Check, ...] = (
    submodels, neighbours, order, batch_order, absent_values, views, cells, covariates, padding, subsets, density,
    state, no_rows, gradients, weights_round_trip, training, ranks, device,
)  # fmt: skip
_ALL: tuple[Check, ...] = (spec_without_torch, config_round_trip)

#: Checks that start processes; the suites run them on the first config alone.
SLOW: tuple[Check, ...] = (ranks,)

#: Checks that need a CUDA device; left out where there is none.
CUDA: tuple[Check, ...] = (device,)

#: The checks of each kind, in their order.
CHECKS: Mapping[str, tuple[Check, ...]] = MappingProxyType(
    {
        "model": _ALL + _MODEL,
        "encoder": (*_ALL, network),
        "decoder": (*_ALL, network),
        "likelihood": (*_ALL, moments, normalised),
        "posterior": (
            *_ALL,
            components.posterior_submodels,
            components.posterior_neighbours,
            components.posterior_subsets,
            components.posterior_order,
        ),
        "prior": (*_ALL, components.prior_density),
        "loss": (*_ALL, components.loss_rows, components.loss_order),
        "sampler": (*_ALL, components.sampler_draws, components.sampler_is_saved),
        "dataset": (*_ALL, components.dataset_rows),
        "metric": (*_ALL, components.metric_values, components.metric_figure),
    }
)  # fmt: skip


def run(kind: str, component: str, fields: Mapping[str, Any] | None = None) -> Iterator[tuple[str, str | None]]:
    """Each check's name with what it found wrong, None where it passed."""
    for check in CHECKS[kind]:
        if check in CUDA and not torch.cuda.is_available():
            continue
        try:
            with torch.random.fork_rng(devices=[]):
                check(Case(kind, component, fields))
        except Exception as error:
            yield check.__name__, f"{type(error).__name__}: {error}"
        else:
            yield check.__name__, None
