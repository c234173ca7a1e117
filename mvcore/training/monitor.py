"""What the best epoch is chosen by, and an early end."""

from __future__ import annotations

from typing import final

from mvcore.data.rows import Rows
from mvcore.errors import ConfigError, nearest
from mvcore.inference.isolation import isolated
from mvcore.models.base import Model
from mvcore.options import TrainingConfig

LOSS = "validation_loss"


@final
class Monitor:
    """A number of the validation rows, and whether it has become better.

    Args:
        options: Says which number, whether greater or smaller ones are better, and by how much.
        data: The training rows, which some metrics compare with.
        validation: The validation rows.
    """

    def __init__(self, options: TrainingConfig, data: Rows, validation: Rows | None) -> None:
        self._options, self._data, self._validation = options, data, validation

    @property
    def metric(self) -> str | None:
        """The name of the metric's value; None for the loss."""
        return None if self._options.monitor == LOSS else self._options.monitor

    def measure(self, model: Model) -> float:
        """The metric's value.

        Raises:
            ConfigError: If no metric gives a value of the name.
        """
        from mvcore.evaluation.evaluate import evaluate  # a training without a metric needs none of it

        assert self.metric is not None
        assert self._validation is not None
        use = self.metric.partition("/")[0]
        with isolated(model, None):
            values = evaluate(model, self._validation, train=self._data, metrics=[use], progress=False).values
        if self.metric not in values:
            near = nearest(self.metric, values)
            hint = f", did you mean {near!r}?" if near else f"; {use!r} gives {', '.join(sorted(values)) or 'none'}"
            raise ConfigError([f"monitor: the validation rows have no value {self.metric!r}{hint}"], "training")
        return values[self.metric]

    def score(self, value: float) -> float:
        """The value such that smaller is better."""
        mode = self._options.mode or ("min" if self.metric is None else "max")
        return value if mode == "min" else -value
