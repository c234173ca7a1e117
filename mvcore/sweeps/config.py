"""What a sweep is asked for: the tables of its file, read and composed into the config of each trial. No torch."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, final, get_args

from attrs import field, frozen, validators

from mvcore import config as configs
from mvcore.checked import Checked
from mvcore.errors import ConfigError
from mvcore.runs.run import changed, table_faults
from mvcore.sweeps.space import Answers, Space, values_of
from mvcore.validators import not_negative, ranged

Direction = Literal["max", "min"]
Search = Literal["optuna", "random", "grid"]
Scheduler = Literal["none", "asha", "pbt"]
_COUNT = ranged(1, 10**9)
REQUIRED, OPTIONAL = ("data", "space", "sweep"), ("model", "training")
VALIDATION_LOSS = "validation_loss"  #: The metric that is no component: the mean loss of the validation rows.
#: What metrics are asked for in a sweep where the file does not say; their own defaults are for a last word.
CHEAP: Mapping[str, Mapping[str, Any]] = {
    "imputation": {"baselines": False},
    "interval_coverage": {"draws": 99},
    "coherence": {"draws": 100},
}
DRAWS = 20  #: Draws of each row, for metrics whose table does not say.


@final
@frozen(kw_only=True)
class Resources(Checked):
    """What each worker of a trial has."""

    cpu: float = field(default=1, validator=ranged(0, 1e6, above=True))
    """CPUs, whose number is that of torch's threads; several trials of less than 1 share one."""
    gpu: float = field(default=0, validator=ranged(0, 1e6))
    """GPUs; several trials of less than 1 share one."""
    workers: int = field(default=1, validator=ranged(1, 10_000))
    """Processes that divide each batch of the trial among them."""


@final
@frozen(kw_only=True)
class SweepConfig(Checked):
    """The table ``[sweep]``."""

    metric: Mapping[str, Direction] = field(validator=validators.min_len(1))
    """Values of ``mvcore.evaluate`` on the validation rows, each ``max`` or ``min``; ``*`` in a name is the mean over
    the modalities. Two or more make a Pareto front, and the first one chooses the best."""
    trials: int | None = field(default=None, validator=_COUNT)
    """How many configs are trained; left out for a grid, which has as many as it has."""
    search: Search = field(default="optuna", validator=validators.in_(get_args(Search)))
    """``optuna`` (TPE), ``random`` or ``grid``."""
    scheduler: Scheduler = field(default="none", validator=validators.in_(get_args(Scheduler)))
    """``asha`` stops trials that are behind the others, ``pbt`` lets them go on from better ones with other options."""
    scheduler_metric: str | None = None
    """The metric by which the scheduler judges, where there are several."""
    report_epochs: int | None = field(default=None, validator=_COUNT)
    """Epochs between two evaluations of a trial; None: at its end only."""
    resources: Resources = field(factory=Resources)
    """What each worker of a trial has."""
    retries: int = field(default=3, validator=ranged(0, 1000))
    """How often a trial whose process died goes on from its checkpoint."""
    concurrent: int | None = field(default=None, validator=_COUNT)
    """The most trials at once; None: as many as the resources allow."""
    address: str = "local"
    """``local`` starts Ray on this machine, ``auto`` or ``host:port`` joins a cluster; ``here`` needs no Ray and trains
    one trial after the other in this process."""
    storage: str | None = None
    """A folder that all machines see, or the address of a bucket; the sweep's trials go below it. None: beside it."""
    seed: int = field(default=0, validator=not_negative)
    """Seed of the search."""
    keep: int = field(default=3, validator=_COUNT)
    """How many of the best trials keep their models; those of a Pareto front all do."""
    retrain: bool = False
    """Whether the best config is trained once more, on the training and the validation rows together."""

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of the metrics."""
        return tuple(self.metric)

    @property
    def judged_by(self) -> str:
        """The metric by which the scheduler judges."""
        return self.scheduler_metric or self.targets[0]


@final
@frozen(kw_only=True)
class Plan:
    """A sweep as its file asks for it."""

    plain: Mapping[str, Any]
    """The tables, as plain values."""
    space: Space
    sweep: SweepConfig
    metrics: tuple[Mapping[str, Any], ...]
    """What ``mvcore.evaluate`` is asked for, a table each."""

    def tables(self, answers: Answers, modalities: Sequence[str]) -> dict[str, Any]:
        """The config of one trial, as ``mvcore train`` takes it.

        Args:
            answers: The answers of the trial.
            modalities: The names of the modalities, for which ``*`` stands.

        Raises:
            ConfigError: If they are answers of another space, or a path leads through a value.
        """
        given = {name: copy.deepcopy(self.plain.get(name, {})) for name in ("data", "model", "training")}
        values = values_of(self.space, answers)
        for path in sorted(values, key=lambda path: (path.count("."), "*" not in path)):
            for own in expanded(path, modalities):
                _put(given, own, copy.deepcopy(values[path]))
        given["model"].setdefault("use", "multimodal")
        return given

    def json(self) -> str:
        """The tables as JSON text."""
        return json.dumps(self.plain, indent=1, ensure_ascii=False) + "\n"


def read(config: str | Path | Mapping[str, Any], changes: Sequence[str] = ()) -> dict[str, Any]:
    """The tables of a sweep's file, or those that were given.

    Args:
        config: A TOML file, or its tables.
        changes: Values to set in those of a file, each ``"table.field=value"``.

    Raises:
        ConfigError: If the file can't be read, or a table is missing, unknown or no table.
    """
    tables = _copied(config) if isinstance(config, Mapping) else changed(config, changes)
    where = "the sweep" if isinstance(config, Mapping) else str(config)
    if faults := table_faults(tables, REQUIRED, OPTIONAL):
        raise ConfigError(faults, where)
    return tables


def parsed(tables: Mapping[str, Any]) -> tuple[Plan | None, list[str]]:
    """The plan of a sweep's tables, and what is wrong with the tables ``[space]`` and ``[sweep]``."""
    space, faults = Space.read(tables["space"])
    own = dict(tables["sweep"])
    about = own.pop("metrics", {})
    try:
        sweep = configs.structure_as(SweepConfig, own, path="sweep")
    except ConfigError as error:
        return None, [*faults, *(under("sweep", problem) for problem in error.problems)]
    if not isinstance(about, Mapping) or not all(isinstance(part, Mapping) for part in about.values()):
        return None, [*faults, f"sweep.metrics: expected a table with a table for each metric, got {about!r}"]
    return Plan(plain=tables, space=space, sweep=sweep, metrics=tuple(_metrics(sweep, about))), faults


def plan_of(plain: Mapping[str, Any]) -> Plan:
    """The plan of tables that were checked before, as a worker gets them."""
    plan, faults = parsed(plain)
    if plan is None or faults:
        raise ConfigError(faults, "the sweep")
    return plan


def under(prefix: str, problem: str) -> str:
    """A problem whose path starts at a prefix: ``"path: text"``, or a text alone."""
    path, colon, _ = problem.partition(": ")
    return f"{prefix}.{problem}" if colon and " " not in path else f"{prefix}: {problem}"


def expanded(path: str, modalities: Sequence[str]) -> list[str]:
    """A path, with each modality in the place of ``*``."""
    start = "model.modalities.*"
    if path != start and not path.startswith(f"{start}."):
        return [path]
    return [f"model.modalities.{name}{path.removeprefix(start)}" for name in modalities]


def _metrics(sweep: SweepConfig, about: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    names = [target.partition("/")[0] for target in sweep.targets if target != VALIDATION_LOSS]
    for name in dict.fromkeys([*names, *about]):
        yield {**CHEAP.get(name.rpartition(":")[2], {}), **about.get(name, {}), "use": name}


def _copied(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Tables as JSON has them: tuples as lists; what is nothing of the kind is refused."""
    try:
        copied: dict[str, Any] = json.loads(json.dumps(tables, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError([f"its tables hold what a file could not: {error}"], "the sweep") from None
    return copied


def _put(tables: dict[str, Any], path: str, value: Any) -> None:
    if path == "model":
        tables["model"].update(value if isinstance(value, Mapping) else {"use": value})
    elif problem := configs.put(tables, path.split("."), value):
        raise ConfigError([problem], "space")
