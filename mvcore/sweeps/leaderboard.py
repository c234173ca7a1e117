"""What a sweep found, as tables: every trial with its config, its metrics by epoch, its time and its fault."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

from mvcore.sweeps.config import Plan
from mvcore.sweeps.records import Record
from mvcore.sweeps.watch import ranking

_ORDER = ("finished", "stopped", "open", "failed")


def rows(plan: Plan, records: Sequence[Record]) -> list[dict[str, Any]]:
    """One row a trial, the best first; a value that a trial does not have is None.

    The columns: ``trial``, ``status``, the metrics of the last evaluation, each name of the space, ``epochs``,
    ``seconds``, ``error``, and ``<metric>@<epoch>`` for the evaluations before.
    """
    names = [name for name, _ in plan.space.all() if any(name in record.answers for record in records)]
    columns = [*_columns(plan, records)]
    return [_row(plan, record, names, columns) for record in ordered(plan, records)]


def ordered(plan: Plan, records: Sequence[Record]) -> list[Record]:
    """The finished trials by the first metric, then those that were stopped, are open, or failed."""
    ranked = ranking(plan, list(records))
    others = [record for record in records if record not in ranked]
    return ranked + sorted(others, key=lambda record: (_ORDER.index(record.status), record.number))


def write_csv(found: Sequence[dict[str, Any]]) -> bytes:
    """Rows as CSV; lists and tables as JSON."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(found[0]) if found else ["trial"], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in found)
    return text.getvalue().encode()


def write_markdown(plan: Plan, found: Sequence[dict[str, Any]]) -> bytes:
    """Rows as a table for people, without the evaluations before the last."""
    from mvcore.evaluation.report import markdown  # which imports torch

    header = [name for name in (found[0] if found else ["trial"]) if "@" not in name]
    shown = [[_shown(name, row[name]) for name in header] for row in found]
    goals = ", ".join(f"{target} ({direction})" for target, direction in plan.sweep.metric.items())
    return f"# Leaderboard\n\n{goals}\n\n{markdown(header, shown)}\n".encode()


def front(plan: Plan, records: Iterable[Record]) -> list[Record]:
    """The finished trials that no other one is better than in one metric and as good in all: the Pareto front."""
    goals = [(record, _signed(plan, record)) for record in records if record.status == "finished" and record.last]
    return [record for record, own in goals if not any(_dominates(other, own) for _, other in goals)]


def _signed(plan: Plan, record: Record) -> list[float]:
    """The metrics such that more is better."""
    signs = [1.0 if direction == "max" else -1.0 for direction in plan.sweep.metric.values()]
    return [sign * value for sign, value in zip(signs, record.goal(plan.sweep.targets) or [], strict=True)]


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))


def _columns(plan: Plan, records: Sequence[Record]) -> list[tuple[str, int]]:
    epochs = sorted({report.epoch for record in records for report in record.reports[:-1]})
    return [(target, epoch) for target in plan.sweep.targets for epoch in epochs]


def _row(plan: Plan, record: Record, names: Sequence[str], columns: Sequence[tuple[str, int]]) -> dict[str, Any]:
    last, before = record.last, {report.epoch: report.values for report in record.reports[:-1]}
    return {
        "trial": record.number,
        "status": record.status,
        **{target: None if last is None else last.values.get(target) for target in plan.sweep.targets},
        **{name: record.answers.get(name) for name in names},
        "epochs": 0 if last is None else last.epoch,
        "seconds": None if last is None else last.seconds,
        "error": record.error,
        **{f"{target}@{epoch}": before.get(epoch, {}).get(target) for target, epoch in columns},
    }


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (list, dict)) else value


def _shown(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name == "seconds":
        return f"{value:.1f}"
    return f"{value:.4g}" if isinstance(value, float) else str(_cell(value))
