"""Who chooses the configs: at random, by a grid, by Optuna; and the book of what was handed out and came back."""

from __future__ import annotations

import json
import random
from itertools import islice
from typing import Any, Protocol, final

from mvcore.extras import require
from mvcore.sweeps.askers import grid, trial_at_random
from mvcore.sweeps.config import Plan
from mvcore.sweeps.domains import Choice, Domain
from mvcore.sweeps.records import Record, Said, Status, records_of, write_answers
from mvcore.sweeps.space import Answers, Space, answered, domains_of
from mvcore.sweeps.store import Store


class Source(Protocol):
    """Chooses answers."""

    def ask(self, number: int) -> Answers:
        """The answers of a new trial."""
        ...

    def tell(self, record: Record, goal: list[float] | None) -> None:
        """How a trial ended, this sweep's or one from before it was interrupted; None: with no value."""
        ...


@final
class RandomSource:
    """Draws each trial by the seed and its number."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space, self._seed = space, seed

    def ask(self, number: int) -> Answers:
        """The answers of a new trial."""
        return trial_at_random(self._space, self._seed, number)

    def tell(self, record: Record, goal: list[float] | None) -> None:
        """Learns nothing."""


@final
class GridSource:
    """Takes one point of the grid after the other."""

    def __init__(self, space: Space) -> None:
        self._points = list(grid(space))

    def __len__(self) -> int:
        return len(self._points)

    def ask(self, number: int) -> Answers:
        """The answers of a new trial."""
        return self._points[number]

    def tell(self, record: Record, goal: list[float] | None) -> None:
        """Learns nothing."""


@final
class OptunaSource:
    """Optuna's TPE, asked value by value, so that a value exists only where its branch is chosen.

    Args:
        plan: The sweep.
        begun: How many trials there were before it.

    Raises:
        MissingExtraError: Without optuna.
    """

    def __init__(self, plan: Plan, begun: int = 0) -> None:
        self._optuna, self._space, self._asked = require_optuna(), plan.space, dict[int, Any]()
        # a search that goes on must not draw again what it drew in the beginning
        seed = random.Random(f"{plan.sweep.seed}/{begun}").randrange(2**32)
        self._study = self._optuna.create_study(
            sampler=self._optuna.samplers.TPESampler(seed=seed),
            directions=[f"{direction}imize" for direction in plan.sweep.metric.values()],
        )

    def ask(self, number: int) -> Answers:
        """The answers of a new trial."""
        trial = self._asked[number] = self._study.ask()
        return answered(self._space, lambda name, domain: _suggested(trial, name, domain))

    def tell(self, record: Record, goal: list[float] | None) -> None:
        """Tells the study; a trial that another process had asked for is added to it."""
        states = self._optuna.trial.TrialState
        state = states.FAIL if goal is None else states.COMPLETE
        trial = self._asked.pop(record.number, None)
        if trial is not None:
            self._study.tell(trial, goal, state=state)
        elif goal is not None:
            self._study.add_trial(past_trial(self._space, record.answers, goal))


def past_trial(space: Space, answers: Answers, goal: list[float]) -> Any:
    """A trial that is over, as Optuna has it: what analyses and a study that goes on are made of."""
    optuna = require_optuna()
    domains = domains_of(space, answers)
    kinds = {name: _distribution(optuna, domain) for name, domain in domains.items()}
    params = {n: json.dumps(v) if isinstance(domains[n], Choice) else v for n, v in answers.items()}
    return optuna.trial.create_trial(params=params, distributions=kinds, values=goal)


def require_optuna() -> Any:
    """Optuna, which says nothing of each study that is made.

    Raises:
        MissingExtraError: Without it.
    """
    optuna = require("optuna", "sweep", "The search 'optuna'")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _suggested(trial: Any, name: str, domain: Domain) -> Any:
    if isinstance(domain, Choice):
        return json.loads(trial.suggest_categorical(name, [json.dumps(value) for value in domain.values]))
    suggest = trial.suggest_int if domain.whole else trial.suggest_float
    return suggest(name, domain.low, domain.high, log=domain.log)


def _distribution(optuna: Any, domain: Domain) -> Any:
    if isinstance(domain, Choice):
        return optuna.distributions.CategoricalDistribution([json.dumps(value) for value in domain.values])
    kind = optuna.distributions.IntDistribution if domain.whole else optuna.distributions.FloatDistribution
    return kind(domain.low, domain.high, log=domain.log)


@final
class Book:
    """The trials of a sweep: which are open, what comes next, what became of each; every entry is in the store.

    Args:
        plan: The sweep.
        store: Where its trials are; those from before are taken up.
    """

    def __init__(self, plan: Plan, store: Store) -> None:
        self.plan, self.store = plan, store
        self.records = {record.number: record for record in records_of(store)}
        self._source = source_of(plan, len(self.records))
        self.total = len(self._source) if isinstance(self._source, GridSource) else int(plan.sweep.trials or 0)
        self._open = [number for number, record in self.records.items() if record.status == "open"]
        for record in self.records.values():
            if record.status != "open":
                self._source.tell(record, _goal(plan, record))

    def next(self) -> Record | None:
        """The next trial to train: one that was begun before, or a new one; None if there is none left."""
        if self._open:
            return self.records[self._open.pop(0)]
        number = max(self.records, default=-1) + 1
        if number >= self.total:
            return None
        record = Record(number=number, answers=self._source.ask(number))
        write_answers(self.store, number, record.answers)
        self.records[number] = record
        return record

    def over(self, said: Said, status: Status, record: Record) -> None:
        """Enters how a trial ended; the record is what its files say."""
        self.records[said.number] = record
        self._source.tell(record, None if status == "failed" else _goal(self.plan, record))

    @property
    def left(self) -> int:
        """How many trials have not ended."""
        ended = [record for record in self.records.values() if record.status != "open"]
        return max(0, self.total - len(ended))


def source_of(plan: Plan, begun: int) -> RandomSource | GridSource | OptunaSource:
    """The search that a sweep asks for, after so many trials."""
    if plan.sweep.search == "grid":
        return GridSource(plan.space)
    return OptunaSource(plan, begun) if plan.sweep.search == "optuna" else RandomSource(plan.space, plan.sweep.seed)


def samples(plan: Plan, count: int) -> list[Answers]:
    """The answers of some trials, to show what a sweep would try; Optuna begins at random too."""
    if plan.sweep.search == "grid":
        return list(islice(grid(plan.space), count))
    return [trial_at_random(plan.space, plan.sweep.seed, number) for number in range(count)]


def size(plan: Plan) -> int:
    """How many trials a sweep has."""
    return sum(1 for _ in grid(plan.space)) if plan.sweep.search == "grid" else int(plan.sweep.trials or 0)


def _goal(plan: Plan, record: Record) -> list[float] | None:
    return record.goal(plan.sweep.targets) if record.status in ("finished", "stopped") else None
