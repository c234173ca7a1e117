"""Whether a sweep can be trained at all, asked of its whole space before anything starts. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from mvcore import config as configs
from mvcore.config.converter import unknown_key
from mvcore.data.schema import Schema
from mvcore.errors import (
    AmbiguousComponentError,
    BrokenPluginError,
    ConfigError,
    NotPackagedError,
    UnknownComponentError,
)
from mvcore.plugins.local import DIST
from mvcore.plugins.registry import Registry
from mvcore.runs.run import DataTable
from mvcore.sweeps.askers import FLOAT_IN_GRID
from mvcore.sweeps.combinations import config_faults
from mvcore.sweeps.config import VALIDATION_LOSS, Plan, parsed, under
from mvcore.sweeps.domains import Number
from mvcore.sweeps.space import names_model

_LOST = (UnknownComponentError, AmbiguousComponentError, BrokenPluginError)
#: Where a path changes what a loss measures, so that losses can't be compared across it.
_MEASURES = ("loss", "prior", "likelihood", "weight", "target")


def check(tables: Mapping[str, Any], where: str, schema: Schema | None = None) -> Plan:
    """The plan of a sweep's tables, every part of which was checked.

    Args:
        tables: The tables, as ``read`` gives them.
        where: What they were read from.
        schema: The modalities of the data; None: they are not known yet, and what depends on them is left for later.

    Raises:
        ConfigError: If anything does not fit; it has all problems.
        NotPackagedError: If it names a component of ``mvcore.local``, which no worker has.
    """
    plan, faults = parsed(tables)
    faults += _data_faults(tables["data"])
    if plan is not None:
        if names := local_names(plan):
            raise NotPackagedError(f"The component {names[0]!r} of mvcore.local")
        faults += _sweep_faults(plan)
        if not any(fault.startswith("space") for fault in faults):
            faults += config_faults(plan, schema)
    if faults or plan is None:
        raise ConfigError(list(dict.fromkeys(faults)), where)
    return plan


def _data_faults(table: Mapping[str, Any]) -> Iterator[str]:
    try:
        data = configs.structure_as(DataTable, table, path="data")
    except ConfigError as error:
        yield from (under("data", problem) for problem in error.problems)
        return
    if not data.validation:
        yield "data.validation: trials are compared on validation rows, and there are none; set validation = 0.2"


def _sweep_faults(plan: Plan) -> Iterator[str]:
    sweep, training = plan.sweep, plan.plain.get("training", {})
    if "patience" in training or plan.space.varies("training.patience") is not None:
        yield "training.patience: the last weights of a trial are scored, after all epochs; use scheduler = 'asha'"
    if "use" in plan.plain.get("model", {}) and names_model(plan.space):
        yield "model.use: the space chooses the model; leave it out"
    yield from _metric_faults(plan)
    yield from _search_faults(plan)
    yield from _scheduler_faults(plan)
    if sweep.address == "here" and sweep.resources.workers > 1:
        yield "sweep.resources.workers: address = 'here' trains in this process alone; take address = 'local'"


def _metric_faults(plan: Plan) -> Iterator[str]:
    registry = Registry.installed()
    for table in plan.metrics:
        try:
            registry.spec("metric", table["use"])
            configs.structure("metric", table, registry)
        except ConfigError as error:
            yield from (under(f"sweep.metrics.{table['use']}", problem) for problem in error.problems)
        except _LOST as error:
            yield f"sweep.metric.{table['use']}: {error}"
    if VALIDATION_LOSS in plan.sweep.metric:
        yield from _loss_faults(plan)
    judge = plan.sweep.scheduler_metric
    if judge is not None and judge not in plan.sweep.metric:
        yield f"sweep.scheduler_metric: {unknown_key(judge, plan.sweep.targets)}"


def _loss_faults(plan: Plan) -> Iterator[str]:
    """Where the space changes what a loss is."""
    for path, node in plan.space.nodes.items():
        if path == "model" and len(names_model(plan.space)) > 1:
            yield (
                "sweep.metric.validation_loss: losses of different models are bounds and penalties of different things "
                "and can't be compared; take log_likelihood or imputation/*"
            )
        inside = [path, *(f"{path}.{own}" for branch in getattr(node, "branches", {}).values() for own in branch)]
        for own in inside:
            if path != "model" or own != "model":
                parts = [part.partition("[")[0] for part in own.split(".")]
                if any(part in _MEASURES for part in parts):
                    yield (
                        f"sweep.metric.validation_loss: {own} changes what the loss measures, so the losses can't be "
                        "compared; take log_likelihood or imputation/*"
                    )


def _search_faults(plan: Plan) -> Iterator[str]:
    if plan.sweep.search == "grid":
        for name, node in plan.space.all():
            if isinstance(node, Number) and not node.whole:
                yield f"space.{name}: {FLOAT_IN_GRID}"
        if plan.sweep.trials is not None:
            yield "sweep.trials: a grid has as many trials as it has points; leave trials out"
    elif plan.sweep.trials is None:
        yield f"sweep.trials: required, but missing: how many trials {plan.sweep.search!r} may make"


def _scheduler_faults(plan: Plan) -> Iterator[str]:
    sweep = plan.sweep
    if sweep.scheduler == "none":
        if sweep.scheduler_metric is not None:
            yield "sweep.scheduler_metric: there is no scheduler; leave it out, or set scheduler = 'asha'"
        return
    if sweep.report_epochs is None:
        yield f"sweep.report_epochs: {sweep.scheduler!r} judges trials while they train; set report_epochs = 5"
    if sweep.scheduler == "pbt" and sweep.resources.workers > 1:
        yield "sweep.resources.workers: 'pbt' trains each trial in one process; leave workers out"
    if len(sweep.metric) > 1 and sweep.scheduler_metric is None:
        yield f"sweep.scheduler_metric: which of {', '.join(sweep.targets)} is {sweep.scheduler!r} to judge by?"
    if sweep.address == "here":
        yield f"sweep.scheduler: {sweep.scheduler!r} compares trials side by side; take address = 'local'"


def local_names(plan: Plan) -> list[str]:
    """The components of ``mvcore.local`` that the plan names, which no worker has."""
    registry = Registry.installed()
    own = {entry.name for entry in registry.entries() if entry.dist == DIST}
    return sorted(own & set(_texts([plan.plain.get("model", {}), plan.plain["space"], plan.metrics])))


def _texts(value: Any) -> Iterator[str]:
    """Every text in a tree of plain values, keys of plugins' branches among them; ids without their distribution."""
    if isinstance(value, Mapping):
        yield from (str(key).rpartition(":")[2] for key in value)
        yield from chain.from_iterable(map(_texts, value.values()))
    elif isinstance(value, (list, tuple)):
        yield from chain.from_iterable(map(_texts, value))
    elif isinstance(value, str):
        yield value.rpartition(":")[2]
