"""What stops trials in mid-training, or has them go on from others: Ray Tune's ASHA and population based training."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any, final

from ray.tune.schedulers import ASHAScheduler, PopulationBasedTraining, TrialScheduler

from mvcore.sweeps.askers import at_random
from mvcore.sweeps.config import Plan, plan_of
from mvcore.sweeps.domains import Choice, Domain, Number
from mvcore.sweeps.records import Record
from mvcore.sweeps.space import Answers, domains_of
from mvcore.training.checkpoint import Difference, MayDiffer

GOAL = "goal"  #: What a scheduler judges by.


def scheduler_of(plan: Plan, epochs: int, records: Mapping[int, Record]) -> TrialScheduler | None:
    """The scheduler that a sweep asks for; one that stops trials is told of those that ended before.

    Args:
        plan: The sweep.
        epochs: The most epochs of a trial.
        records: The trials so far.
    """
    way, every = plan.sweep.metric[plan.sweep.judged_by], plan.sweep.report_epochs or 1
    if plan.sweep.scheduler == "asha":
        asha = ASHAScheduler(
            time_attr="epoch", metric=GOAL, mode=way, grace_period=min(every, epochs), max_t=max(epochs, every)
        )
        for record in records.values():
            if record.status != "open":
                _remember(asha, plan, record)
        return asha
    if plan.sweep.scheduler == "pbt":
        return PopulationBasedTraining(
            time_attr="epoch", metric=GOAL, mode=way, perturbation_interval=every,
            custom_explore_fn=Explores(plan.plain),
        )  # fmt: skip
    return None


def _remember(asha: ASHAScheduler, plan: Plan, record: Record) -> None:
    past: Any = _Past(f"before-{record.number}")
    nobody: Any = None
    asha.on_trial_add(nobody, past)
    for report in record.reports:
        asha.on_trial_result(nobody, past, {"epoch": report.epoch, GOAL: report.values[plan.sweep.judged_by]})


@final
class _Past:
    """All that a scheduler asks of a trial that ended before."""

    def __init__(self, trial_id: str) -> None:
        self.trial_id = trial_id


@final
class Explores:
    """Changes the options with which a trial goes on from another's checkpoint, inside their domains.

    Args:
        tables: The sweep's tables.
    """

    def __init__(self, tables: Mapping[str, Any]) -> None:
        self.tables = dict(tables)

    def __call__(self, config: dict[str, Any]) -> dict[str, Any]:
        """The config of another trial with changed options."""
        space, answers = plan_of(self.tables).space, json.loads(config["trial"]["answers"])
        domains = {name: domain for name, domain in domains_of(space, answers).items() if may_change(name, domain)}
        changed = {name: _changed(domain, answers[name], random.Random()) for name, domain in domains.items()}
        return {"trial": {**config["trial"], "answers": json.dumps({**answers, **changed})}}


def may_change(name: str, domain: Domain) -> bool:
    """Whether a training can go on with another value: a learning rate, a weight of the loss."""
    path = "".join(part.rpartition("]")[2] for part in name.split("["))
    root, _, rest = path.partition(".")
    where = f"model.config.{rest}" if root == "model" else f"options.{rest}"
    if where == "options.epochs":  # all trials have theirs
        return False
    may = MayDiffer(finished=False)
    if isinstance(domain, Number):
        return may.differ(Difference(where, *((int if domain.whole else float)(v) for v in (domain.low, domain.high))))
    return all(may.differ(Difference(where, value, value)) for value in domain.values)


def _changed(domain: Domain, value: Any, draws: random.Random) -> Any:
    """A fifth more or less, or the choice beside; one time in four drawn anew."""
    if draws.random() < 0.25:
        return at_random(draws)("", domain)
    if isinstance(domain, Choice):
        at = domain.values.index(value) + draws.choice([-1, 1])
        return domain.values[min(max(at, 0), len(domain.values) - 1)]
    moved = value * draws.choice([0.8, 1.2])
    inside = min(max(moved, domain.low), domain.high)
    return round(inside) if domain.whole else inside


def forkable(plan: Plan, answers: Answers) -> list[str]:
    """The names that a trial may go on with another value of."""
    return [name for name, domain in domains_of(plan.space, answers).items() if may_change(name, domain)]
