"""Figures of a sweep: what was best when, what the parameters did, what the plugins reached."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mvcore.errors import MissingExtraError
from mvcore.evaluation.figures import axes_of
from mvcore.extras import require
from mvcore.sweeps.config import Plan
from mvcore.sweeps.domains import Choice, Domain, Number, Plugin
from mvcore.sweeps.leaderboard import front
from mvcore.sweeps.records import Record
from mvcore.sweeps.search import past_trial, require_optuna
from mvcore.sweeps.space import Space, domains_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_AXES = 9
_ENOUGH = 8  # trials from which on the importance of a parameter is more than a guess


def drawn(plan: Plan, records: Sequence[Record]) -> Iterator[tuple[str, Figure]]:
    """Each figure that the trials have enough for, by its name.

    Raises:
        MissingExtraError: Without matplotlib.
    """
    known = [record for record in records if record.last is not None and record.status in ("finished", "stopped")]
    ended = sorted((r for r in known if r.status == "finished"), key=lambda record: record.ended or 0.0)
    makers: dict[str, Callable[[Plan, Sequence[Record]], Figure | None]] = {
        "best_so_far": best_so_far, "parallel_coordinates": parallel_coordinates, "plugins": plugins,
        "importance": importance, "front": pareto,
    }  # fmt: skip
    for name, make in makers.items():
        figure = make(plan, ended) if ended else None
        if figure is not None:
            yield name, figure


def best_so_far(plan: Plan, ended: Sequence[Record]) -> Figure:
    """Each finished trial's value of the first metric and the best until then, over trials and over work."""
    target, direction = next(iter(plan.sweep.metric.items()))
    values = np.array([_value(record, target) for record in ended])
    best = (np.maximum if direction == "max" else np.minimum).accumulate(values)
    work = np.cumsum([record.last.seconds for record in ended if record.last is not None]) / 60
    figure, axes = axes_of(1, 2, size=(9, 3.4), sharey=True)
    for ax, x, label in zip(
        axes, (np.arange(1, len(values) + 1), work), ("finished trials", "minutes of work, all trials"), strict=True
    ):
        ax.plot(x, values, "o", color="0.6", ms=4, label="trial")
        ax.step(x, best, where="post", color="C0", label="best so far")
        ax.set(xlabel=label)
    axes[0].set(ylabel=target)
    axes[1].legend(fontsize="small")
    return figure


def parallel_coordinates(plan: Plan, ended: Sequence[Record]) -> Figure | None:
    """A line a trial through what it chose, its colour the first metric; a line passes by what its branch lacks."""
    target, direction = next(iter(plan.sweep.metric.items()))
    names = [
        name
        for name in _domains(plan.space, ended)
        if len({_text(r.answers[name]) for r in ended if name in r.answers}) > 1
    ]
    names = sorted(names, key=lambda name: name.count("["))[:_MOST_AXES]
    if len(ended) < 2 or not names:
        return None
    domains, values = _domains(plan.space, ended), np.array([_value(record, target) for record in ended])
    figure, ax = axes_of(1, 1, size=(2.2 + 1.5 * len(names), 4.2))
    colors, norm = require("matplotlib", "eval", "A figure").colormaps["viridis"], _ranks(values)
    better = np.argsort(values if direction == "max" else -values)  # the best are drawn last, on top
    for i in better:
        points = [(x, _place(domains[n], ended[i].answers[n])) for x, n in enumerate(names) if n in ended[i].answers]
        shade = norm[i] if direction == "max" else 1 - norm[i]
        ax.plot(*zip(*points, strict=True), "-o", ms=3, color=colors(shade), lw=1 + shade, alpha=0.35 + 0.6 * shade)
    ax.set(xticks=range(len(names)), yticks=[], ylim=(-0.09, 1.09), xlim=(-0.5, len(names) - 0.3))
    ax.set_xticklabels([_wrapped(name) for name in names], fontsize="small")
    for x, name in enumerate(names):
        ax.axvline(x, color="0.8", lw=0.8, zorder=0)
        for place, text in _ticks(domains[name]):
            ax.annotate(text, (x, place), xytext=(4, 0), textcoords="offset points", fontsize="x-small", va="center",
                        bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 0.5})  # fmt: skip
    best = values.max() if direction == "max" else values.min()
    ax.set_title(f"{len(ended)} trials by the rank of {target}: yellow is the best ({best:.4g})", fontsize="medium")
    return figure


def plugins(plan: Plan, ended: Sequence[Record]) -> Figure | None:
    """The first metric of every trial, by the component that it chose."""
    target = plan.sweep.targets[0]
    names = [name for name, node in plan.space.all() if isinstance(node, Plugin) and len(node.branches) > 1]
    names = [name for name in names if any(name in record.answers for record in ended)]
    if not names:
        return None
    figure, axes = axes_of(1, len(names), size=(1.5 + 3.2 * len(names), 3.6), squeeze=False, sharey=True)
    for ax, name in zip(axes[0], names, strict=True):
        groups: dict[str, list[float]] = {}
        for record in ended:
            if name in record.answers:
                groups.setdefault(str(record.answers[name]), []).append(_value(record, target))
        for x, values in enumerate(groups.values()):
            spread = np.linspace(-0.15, 0.15, len(values)) if len(values) > 1 else [0.0]
            ax.plot(x + np.asarray(spread), sorted(values), "o", ms=4, color=f"C{x % 10}", alpha=0.8)
            ax.plot([x - 0.3, x + 0.3], [np.median(values)] * 2, color="0.2", lw=1.5)
        ax.set(xticks=range(len(groups)), xlim=(-0.6, len(groups) - 0.4))
        ax.set_xticklabels([f"{group}\n({len(values)})" for group, values in groups.items()], fontsize="small")
        ax.set_title(name, fontsize="medium")
    axes[0][0].set(ylabel=f"{target}; line: median")
    return figure


def importance(plan: Plan, ended: Sequence[Record]) -> Figure | None:
    """How much each parameter tells of which trials are the better ones (PED-ANOVA, Watanabe et al., 2023).

    A parameter of a branch is judged among the trials that took the branch.
    """
    groups = {
        where: shares for where, names in _groups(plan.space, ended).items() if (shares := _shares(plan, ended, names))
    }
    if not groups:
        return None
    heights = [len(shares) for shares in groups.values()]
    figure, axes = axes_of(
        len(groups), 1, size=(6.4, 1.1 + 0.32 * sum(heights) + 0.5 * len(groups)), squeeze=False,
        gridspec_kw={"height_ratios": heights},
    )  # fmt: skip
    for (ax,), (where, shares) in zip(axes, groups.items(), strict=True):
        names = sorted(shares, key=lambda name: shares[name])
        ax.barh(range(len(names)), [shares[name] for name in names], color="C0", edgecolor="0.4")
        ax.set(yticks=range(len(names)), xlim=(0, 1))
        ax.set_yticklabels([name.removeprefix(f"{where}.") for name in names], fontsize="small")
        ax.set_title(f"trials with {where}" if where else "all trials", fontsize="small", loc="left")
    axes[-1][0].set(xlabel=f"share of the importance for {plan.sweep.targets[0]}")
    return figure


def pareto(plan: Plan, ended: Sequence[Record]) -> Figure | None:
    """The first two metrics of each trial, the Pareto front of all metrics marked."""
    if len(plan.sweep.metric) < 2:
        return None
    (one, x_way), (two, y_way) = list(plan.sweep.metric.items())[:2]
    best = sorted(front(plan, ended), key=lambda record: _value(record, one))
    figure, ax = axes_of(1, 1, size=(5.6, 4.2))
    ax.plot([_value(r, one) for r in ended], [_value(r, two) for r in ended], "o", color="0.65", ms=4, label="trial")
    ax.plot(
        [_value(r, one) for r in best], [_value(r, two) for r in best], "o-", color="C3", ms=6, label="Pareto front"
    )
    for record in best:
        ax.annotate(f"{record.number}", (_value(record, one), _value(record, two)), xytext=(5, 5),
                    textcoords="offset points", fontsize="small")  # fmt: skip
    ax.set(xlabel=f"{one} ({x_way})", ylabel=f"{two} ({y_way})")
    ax.legend(fontsize="small")
    return figure


def _shares(plan: Plan, ended: Sequence[Record], names: Sequence[str]) -> Mapping[str, float]:
    """The importance of names that the same trials have; nothing where these are too few or the names do not vary."""
    trials = [record for record in ended if all(name in record.answers for name in names)]
    names = [name for name in names if len({_text(record.answers[name]) for record in trials}) > 1]
    if len(trials) < _ENOUGH or len(names) < 2:  # of one alone there is nothing to say
        return {}
    try:
        optuna = require_optuna()
    except MissingExtraError:
        return {}
    direction = next(iter(plan.sweep.metric.values()))
    study = optuna.create_study(direction=f"{direction}imize")
    study.add_trials([past_trial(plan.space, r.answers, [_value(r, plan.sweep.targets[0])]) for r in trials])
    judge = optuna.importance.PedAnovaImportanceEvaluator()
    shares: Mapping[str, float] = optuna.importance.get_param_importances(study, evaluator=judge, params=list(names))
    return {name: share for name, share in shares.items() if math.isfinite(share)}


def _groups(space: Space, ended: Sequence[Record]) -> dict[str, list[str]]:
    """Names that the same trials have, by the branch that these trials took; none: those that all have."""
    groups: dict[str, list[str]] = {}
    for name in _domains(space, ended):
        every = all(name in record.answers for record in ended)
        groups.setdefault("" if every else name[: name.rindex("]") + 1], []).append(name)
    return groups


def _domains(space: Space, ended: Sequence[Record]) -> dict[str, Domain]:
    """Each name that a trial was asked for with its domain, in the order of the space."""
    found: dict[str, Domain] = {}
    for record in ended:
        found |= domains_of(space, record.answers)
    return {name: found[name] for name, _ in space.all() if name in found}


def _value(record: Record, target: str) -> float:
    assert record.last is not None
    return record.last.values[target]


def _ranks(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The rank of each value, from 0 to 1: an outlier must not take all the colours."""
    ranks: np.ndarray[Any, Any] = values.argsort().argsort() / max(1, len(values) - 1)
    return ranks


def _place(domain: Domain, value: Any) -> float:
    """Where a value stands on its axis, from 0 to 1."""
    if isinstance(domain, Choice):
        texts = [_text(own) for own in domain.values]
        return texts.index(_text(value)) / max(1, len(texts) - 1)
    low, high, at = (math.log(v) if domain.log else v for v in (domain.low, domain.high, value))
    return (at - low) / (high - low)


def _ticks(domain: Domain) -> list[tuple[float, str]]:
    if isinstance(domain, Choice):
        return [(_place(domain, value), _short(value)) for value in domain.values]
    values = [domain.low, *_between(domain), domain.high]
    return [(_place(domain, value), f"{value:g}") for value in values]


def _between(domain: Number) -> list[float]:
    """Powers of ten inside a logarithmic range, not near its ends."""
    if not domain.log:
        return []
    powers = [10.0**k for k in range(math.ceil(math.log10(domain.low)), math.floor(math.log10(domain.high)) + 1)]
    return [power for power in powers if 0.08 < _place(domain, power) < 0.92]


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 16 else f"{text[:15]}…"


def _wrapped(name: str) -> str:
    """A name over several lines, broken behind its parts."""
    return name.replace("].", "]\n.").replace("model.modalities.", "modalities\n.")
