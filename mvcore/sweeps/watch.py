"""One table of a sweep under way: its trials by state, the best so far, the time that is left. No torch."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, TextIO, final

from mvcore.sweeps.config import Plan
from mvcore.sweeps.records import ENDED, Record, Said
from mvcore.text import clean

_EVERY = 0.5  # seconds between two drawings


@final
class Watch:
    """The table, drawn anew in its place in a terminal or notebook; elsewhere a line as each trial ends.

    Args:
        plan: The sweep.
        records: The trials from before.
        total: How many trials there are to be.
        show: Whether to show anything.
        stream: Where to.
    """

    def __init__(
        self, plan: Plan, records: Mapping[int, Record], total: int, *, show: bool = True, stream: TextIO | None = None
    ) -> None:
        self._plan, self._total, self._show, self._stream = plan, total, show, stream or sys.stderr
        self._records = dict(records)
        self._running: dict[int, Said] = {}
        self._began, self._done_before = time.monotonic(), sum(r.status != "open" for r in records.values())
        self._drawn, self._lines, self._notebook = 0.0, 0, _notebook() if show else None

    def begun(self, number: int) -> None:
        """A trial starts, or starts again."""
        self._running[number] = Said(number=number)
        self._draw()

    def reported(self, said: Said) -> None:
        """A trial was evaluated, or failed."""
        self._running[said.number] = said
        self._draw()

    def ended(self, record: Record) -> None:
        """A trial ended."""
        self._running.pop(record.number, None)
        self._records[record.number] = record
        if self._show and self._notebook is None and not self._stream.isatty():
            self._stream.write(f"{self._line(record)}\n")
        self._draw(now=True)

    def table(self) -> list[str]:
        """The table's lines."""
        counts = Counter(record.status for record in self._records.values() if record.status in ENDED)
        waiting = max(0, self._total - sum(counts.values()) - len(self._running))
        states = [f"{counts[status]} {status}" for status in ENDED if counts[status]]
        states += [f"{len(self._running)} running", f"{waiting} waiting"]
        lines = [f"trials  {', '.join(states)}", f"best    {self._best()}", f"time    {self._time()}"]
        lines += [f"  {number:04d}  {_state(said)}" for number, said in sorted(self._running.items())[:8]]
        return [clean(line, 200) for line in lines]

    def close(self) -> None:
        """Leaves the last table."""
        self._draw(now=True)

    def _best(self) -> str:
        best = best_of(self._plan, list(self._records.values()))
        return "none yet" if best is None else self._line(best)

    def _line(self, record: Record) -> str:
        shown = "" if record.last is None else shown_values(self._plan, record.last.values)
        return clean(f"{record.number:04d}  {record.status}  {record.error or shown}", 200)

    def _time(self) -> str:
        spent = time.monotonic() - self._began
        done = sum(record.status in ENDED for record in self._records.values()) - self._done_before
        left = self._total - self._done_before - done
        guess = f", about {_clock(spent / done * left)} left" if done and left > 0 else ""
        return f"{_clock(spent)}{guess}"

    def _draw(self, *, now: bool = False) -> None:
        if not self._show or (not now and time.monotonic() - self._drawn < _EVERY):
            return
        self._drawn = time.monotonic()
        if self._notebook is not None:
            self._notebook.update({"text/plain": "\n".join(self.table())}, raw=True)
        elif self._stream.isatty():
            lines = self.table()
            up = f"\x1b[{self._lines}A" if self._lines else ""
            self._stream.write(up + "".join(f"\x1b[2K{line}\n" for line in lines) + "\x1b[J")
            self._stream.flush()
            self._lines = len(lines)


def best_of(plan: Plan, records: list[Record]) -> Record | None:
    """The finished trial that is best by the first metric, the earlier one of equals."""
    ranked = ranking(plan, records)
    return ranked[0] if ranked else None


def ranking(plan: Plan, records: list[Record]) -> list[Record]:
    """The finished trials, the best by the first metric first."""
    target, direction = next(iter(plan.sweep.metric.items()))
    finished = [record for record in records if record.status == "finished" and record.last is not None]
    sign = -1.0 if direction == "max" else 1.0
    return sorted(finished, key=lambda record: (sign * record.last.values[target], record.number))  # type: ignore[union-attr]


def shown_values(plan: Plan, values: Mapping[str, float]) -> str:
    """The metrics of the sweep, for people."""
    return ", ".join(f"{target} {values[target]:.4g}" for target in plan.sweep.targets if target in values)


def _state(said: Said) -> str:
    values = ", ".join(f"{name} {value:.4g}" for name, value in said.values.items())
    return f"epoch {said.epoch}  {values}" if said.values else said.error or "training"


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _notebook() -> Any:
    """A display of IPython that can be drawn anew; None outside a notebook."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if shell is None or type(shell).__name__ != "ZMQInteractiveShell":
        return None
    return ipython.display.display({"text/plain": ""}, raw=True, display_id=True)  # type: ignore[union-attr]
