"""What is wrong with the models and trainings of a space, asked of its combinations. Imports no torch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple

from mvcore import config as configs
from mvcore.configured import configured
from mvcore.data.schema import ModalitySpec, Schema
from mvcore.errors import ConfigError, MvcoreError
from mvcore.options import TrainingConfig
from mvcore.plugins.registry import Registry
from mvcore.sweeps.askers import corners, covering
from mvcore.sweeps.config import Plan, expanded, under
from mvcore.sweeps.space import Answers, names_model

MOST = 256  #: Combinations that are tried; of more than these, so many in which every value comes up.


class _Fault(NamedTuple):
    """What is wrong with one config, and where."""

    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text}"


def combinations(plan: Plan) -> list[Answers]:
    """Points of the space that hold every combination of its choices, or, of too many, every choice."""
    every = list(islice(corners(plan.space), MOST + 1))
    if len(every) > MOST:
        every = list(covering(plan.space, MOST))
    return every + list(islice(corners(plan.space, choices=False, high=True), MOST))


def config_faults(plan: Plan, schema: Schema | None) -> list[str]:
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
    named = {
        *(likelihoods if isinstance(likelihoods, Mapping) else ()),
        *(tables if isinstance(tables, Mapping) else ()),
    }
    paths = [path.split(".") for path, _ in plan.space.all()]
    named |= {part[2] for part in paths if part[:2] == ["model", "modalities"] and len(part) > 2}
    names = sorted({*named, "any"} - {"*"})
    shapes: list[tuple[tuple[int, ...], str]] = [
        ((4,), "normal"), ((3, 32, 32), "normal"), ((4,), "bernoulli"), ((4,), "categorical"), ((4,), "poisson")
    ]  # fmt: skip
    return [
        Schema(tuple(_spec(name, shape, likelihoods.get(name, guess)) for name in names)) for shape, guess in shapes
    ]


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
            f"{name}: {', '.join(sorted(models))} {'has' if len(models) == 1 else 'have'} no such field ({text}); put "
            "it into the branches of the models that have it"
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
