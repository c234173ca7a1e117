"""A model that was built and not trained, evaluated: whether the metrics of a sweep can be computed at all."""

from __future__ import annotations

import torch

from mvcore.runs.run import RunData
from mvcore.sweeps.config import Plan
from mvcore.sweeps.scores import evaluated
from mvcore.sweeps.space import Answers
from mvcore.sweeps.trial import built


def check_values(plan: Plan, answers: Answers, rows: RunData) -> None:
    """Raises what an evaluation of the sweep's metrics would raise, but for values that are not finite.

    Raises:
        DataError: If no value has the name of one of the sweep's metrics.
        NotApplicableError: If a metric can't be computed.
        ConfigError: If the model can't be built.
    """
    tables = plan.tables(answers, rows.train.schema.names)
    with torch.random.fork_rng(devices=[]):
        model, options = built(tables, rows)
        model.fit_transforms(rows.train)
        evaluated(plan, model, rows, options.batch_size)
