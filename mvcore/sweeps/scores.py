"""What a model of a sweep is worth: the metrics on the validation rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import mvcore
from mvcore.data.dataset import MultimodalDataset
from mvcore.errors import DataError, nearest
from mvcore.inference.isolation import isolated
from mvcore.models.base import Model
from mvcore.runs.run import RunData
from mvcore.sweeps.config import DRAWS, VALIDATION_LOSS, Plan


def values_of_model(
    plan: Plan, model: Model, rows: RunData, batch_size: int, stage: str | None = None
) -> dict[str, float]:
    """The values of a model on the validation rows: those of the sweep's metrics, and all that were computed.

    Raises:
        DataError: If a metric of the sweep is not among them, or is not finite.
        NotApplicableError: If one can't be computed.
    """
    goals, found = evaluated(plan, model, rows, batch_size, stage)
    for target, value in goals.items():
        if not math.isfinite(value):
            raise DataError(
                f"The metric {target!r} is {value!r} on the validation rows; trials can't be compared by it."
            )
    return goals | {name: value for name, value in found.items() if math.isfinite(value)}


def evaluated(
    plan: Plan, model: Model, rows: RunData, batch_size: int, stage: str | None = None
) -> tuple[dict[str, float], dict[str, float]]:
    """The values of the sweep's metrics, and all that were computed; errors but for values as ``values_of_model``."""
    assert rows.validation is not None
    found: dict[str, float] = {}
    if plan.metrics:
        report = mvcore.evaluate(
            model, rows.validation, train=rows.train, metrics=list(plan.metrics), K=DRAWS, progress=False
        )
        found = dict(report.values)
    if VALIDATION_LOSS in plan.sweep.metric:
        found[VALIDATION_LOSS] = _validation_loss(model, rows.validation, batch_size, stage)
    return {target: _goal(target, found, rows.train.schema.names) for target in plan.sweep.targets}, found


def _goal(target: str, found: Mapping[str, float], modalities: Sequence[str]) -> float:
    """The value of one metric of the sweep; for ``*`` the mean over the modalities that have one."""
    names = [target.replace("*", name) for name in modalities] if "*" in target else [target]
    values = [found[name] for name in names if name in found]
    if not values:
        near = nearest(target, found)
        hint = f" Did you mean {near!r}?" if near else ""
        raise DataError(f"The evaluation gives no value {target!r}.{hint} It gives {', '.join(sorted(found))}.")
    return sum(values) / len(values)


def _validation_loss(model: Model, rows: MultimodalDataset, batch_size: int, stage: str | None) -> float:
    """The mean loss, after every warm-up, as ``fit`` computes it, to the same draws."""
    device, total = next(model.parameters()).device, 0.0
    with isolated(model, None):
        for batch in rows.batches(batch_size):
            total += float(model(batch.to(device), stage=stage).loss) * len(batch)
    return total / len(rows)
