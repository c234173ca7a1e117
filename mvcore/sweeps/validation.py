"""Whether a sweep can be trained at all, asked of its whole space before anything starts. Imports no torch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, islice
from typing import Any, NamedTuple

from mvcore import config as configs
from mvcore.config.converter import unknown_key
from mvcore.configured import configured
from mvcore.data.schema import ModalitySpec, Schema
from mvcore.errors import (
    AmbiguousComponentError,
    BrokenPluginError,
    ConfigError,
    MvcoreError,
    NotPackagedError,
    UnknownComponentError,
)
from mvcore.options import TrainingConfig
from mvcore.plugins.local import DIST
from mvcore.plugins.registry import Registry
from mvcore.runs.run import DataTable
from mvcore.sweeps.askers import FLOAT_IN_GRID, corners, covering
from mvcore.sweeps.config import VALIDATION_LOSS, Plan, expanded, parsed, under
from mvcore.sweeps.domains import Number
from mvcore.sweeps.space import Answers, names_model

MOST = 256  #: Combinations that are tried; of more than these, so many in which every value comes up.
_LOST = (UnknownComponentError, AmbiguousComponentError, BrokenPluginError)
#: Where a path changes what a loss measures, so that losses can't be compared across it.
_MEASURES = ("loss", "prior", "likelihood", "weight", "target")


class _Fault(NamedTuple):
    """What is wrong with one config, and where."""

    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text}"


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
            faults += _config_faults(plan, schema)
    if faults or plan is None:
        raise ConfigError(list(dict.fromkeys(faults)), where)
    return plan


def combinations(plan: Plan) -> list[Answers]:
    """Points of the space that hold every combination of its choices, or, of too many, every choice."""
    every = list(islice(corners(plan.space), MOST + 1))
    if len(every) > MOST:
        every = list(covering(plan.space, MOST))
    return every + list(islice(corners(plan.space, choices=False, high=True), MOST))


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
        yield "training.patience: the last weights of a trial are scored, all after equal epochs; use scheduler = 'asha'"
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
    if len(sweep.metric) > 1 and sweep.scheduler_metric is None:
        yield f"sweep.scheduler_metric: which of {', '.join(sweep.targets)} is {sweep.scheduler!r} to judge by?"
    if sweep.address == "here":
        yield f"sweep.scheduler: {sweep.scheduler!r} compares trials that train at the same time; take address = 'local'"


def _config_faults(plan: Plan, schema: Schema | None) -> list[str]:
    """What is wrong with the models and trainings of the space, each fault once, with the name of its path."""
    found: dict[tuple[str, str], list[Answers]] = defaultdict(list)
    tried = []
    for answers in combinations(plan):
        faults = _faults_of(plan, answers, schema)
        for fault in faults:
            found[_name(plan, answers, fault, schema), fault.text].append(answers)
        if not any(fault.path == "model" for fault in faults):  # else its fields were not looked at
            tried.append(answers)
    return [_told(plan, name, text, where, tried) for (name, text), where in found.items()]


def _faults_of(plan: Plan, answers: Answers, schema: Schema | None) -> list[_Fault]:
    """What is wrong with one config; where the data are not known, what would be with any data."""
    if schema is not None:
        return _faults_on(plan, answers, schema)
    guesses = _guesses(plan)
    found = [(guess, _faults_on(plan, answers, guess)) for guess in guesses[:1]]
    if not found[0][1]:
        return []
    found += [(guess, _faults_on(plan, answers, guess)) for guess in guesses[1:]]
    likely = [min(found, key=partial(_faults_in, name))[0][name] for name in guesses[0].names]
    return _faults_on(plan, answers, Schema(tuple(likely)))


def _faults_in(name: str, guess: tuple[Schema, list[_Fault]]) -> int:
    """How many faults a modality has if the data are as guessed."""
    return sum(fault.path.startswith(f"model.modalities.{name}.") for fault in guess[1])


def _faults_on(plan: Plan, answers: Answers, schema: Schema) -> list[_Fault]:
    try:
        tables = plan.tables(answers, schema.names)
    except ConfigError as error:
        return [_split(problem) for problem in error.problems]
    faults = []
    try:
        options = configs.structure_as(TrainingConfig, tables["training"], path="training")
    except ConfigError as error:
        options = None
        faults += [_split(under("training", problem)) for problem in error.problems]
    fields = {name: value for name, value in tables["model"].items() if name != "use"}
    try:
        config, _ = configured(tables["model"]["use"], schema, fields, Registry.installed())
    except ConfigError as error:
        return faults + [_split(under("model", problem)) for problem in error.problems]
    except MvcoreError as error:
        return [*faults, _Fault("model", str(error))]
    if options is not None and plan.sweep.scheduler == "pbt":
        schedule = tables["training"].get("schedule", config.recipe().schedule)
        if schedule in ("one_cycle", "cosine"):
            text = f"pbt changes options in mid-training, and {schedule!r} has planned every step; set it to 'constant'"
            faults.append(_Fault("training.schedule", text))
    return faults


def _guesses(plan: Plan) -> list[Schema]:
    """Schemas that data not yet read may have, with every modality that the tables name."""
    data, model = plan.plain["data"], plan.plain.get("model", {})
    likelihoods = data.get("likelihoods", {})
    tables = model.get("modalities", {})
    named = {*(likelihoods if isinstance(likelihoods, Mapping) else ()), *(tables if isinstance(tables, Mapping) else ())}
    paths = [path.split(".") for path, _ in plan.space.all()]
    named |= {part[2] for part in paths if part[:2] == ["model", "modalities"] and len(part) > 2}
    names = sorted({*named, "any"} - {"*"})
    shapes: list[tuple[tuple[int, ...], str]] = [
        ((4,), "normal"), ((3, 32, 32), "normal"), ((4,), "bernoulli"), ((4,), "categorical"), ((4,), "poisson")
    ]  # fmt: skip
    return [Schema(tuple(_spec(name, shape, likelihoods.get(name, guess)) for name in names)) for shape, guess in shapes]


def _spec(name: str, shape: tuple[int, ...], likelihood: str) -> ModalitySpec:
    categories = 3 if likelihood == "categorical" else None
    return ModalitySpec(name=name, shape=shape, likelihood=likelihood, categories=categories)


def _split(problem: str) -> _Fault:
    path, _, text = problem.partition(": ")
    return _Fault(path, text)


def _name(plan: Plan, answers: Answers, fault: _Fault, schema: Schema | None) -> str:
    """The name in the space of the path that a fault is at, or, where no path of the space is, the path."""
    names = schema.names if schema is not None else [name for guess in _guesses(plan)[:1] for name in guess.names]
    own = {path: name for name in _asked(plan, answers) for path in expanded(_path(name), names)}
    near = [path for path in own if fault.path == path or fault.path.startswith(f"{path}.")]
    if not near:
        return fault.path
    longest = max(near, key=len)
    return f"space.{own[longest]}{fault.path.removeprefix(longest)}"


def _asked(plan: Plan, answers: Answers) -> list[str]:
    """The names that are there in one config, also of what is fixed, those that lead to others first."""
    kept = []
    for name, _ in plan.space.all():
        parents = [name[: i + 1] for i, character in enumerate(name) if character == "]"]
        if all(_chosen(parent, answers) for parent in parents):
            kept.append(name)
    return kept


def _chosen(branch: str, answers: Answers) -> bool:
    name, _, chosen = branch[:-1].rpartition("[")
    return answers.get(name) == chosen


def _path(name: str) -> str:
    """The path of a name: without the branches in brackets."""
    return "".join(part.rpartition("]")[2] for part in name.split("["))


def _told(plan: Plan, name: str, text: str, where: Sequence[Answers], tried: Sequence[Answers]) -> str:
    """A fault, with the combination that has it if not all have."""
    path = name.removeprefix("space.")
    models = {answers["model"] for answers in where if isinstance(answers.get("model"), str)}
    outside = "[" not in path and name.startswith("space.") and path != "model"
    every = set(names_model(plan.space))
    if outside and "unknown key" in text and models and models != every:
        return (
            f"{name}: {', '.join(sorted(models))} {'has' if len(models) == 1 else 'have'} no such field ({text}); put it "
            "into the branches of the models that have it"
        )
    alike = [answers for answers in tried if path not in answers or answers[path] == where[0].get(path)]
    if all(answers in where for answers in alike if _has(plan, answers, path)):
        return f"{name}: {text}"
    return f"{name}: {text} (with {_shared(where, tried)})"


def _has(plan: Plan, answers: Answers, path: str) -> bool:
    return path in _asked(plan, answers) or not any(path == name for name, _ in plan.space.all())


def _shared(where: Sequence[Answers], tried: Sequence[Answers]) -> str:
    """What the combinations that fail have in common, or the first of them."""
    first, *others = where
    common = {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}
    telling = {n: v for n, v in common.items() if any(n in answers and answers[n] != v for answers in tried)}
    return ", ".join(f"{name} = {value!r}" for name, value in (telling or first).items())


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
