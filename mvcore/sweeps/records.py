"""What is known of a trial: what it was asked for, its evaluations, and how it ended. No torch."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Literal, final

from attrs import asdict, field, frozen

from mvcore.errors import ModelFileError
from mvcore.sweeps.space import Answers
from mvcore.sweeps.store import Store, name_of, read_json, write_json

#: ``finished``: trained to the end; ``stopped``: by the scheduler; ``failed``: with an error; ``open``: not yet ended.
Status = Literal["finished", "stopped", "failed", "open"]
ENDED: tuple[Status, ...] = ("finished", "stopped", "failed")


@final
@frozen(kw_only=True)
class Evaluated:
    """One evaluation of a trial."""

    epoch: int
    """Epochs that it was trained for."""
    seconds: float
    """Seconds of work until then, those before an interruption too."""
    values: Mapping[str, float]
    """The values by name: those of the sweep's metrics, and all others that were computed on the way."""


@final
@frozen(kw_only=True)
class Record:
    """A trial of a sweep."""

    number: int
    answers: Answers
    reports: tuple[Evaluated, ...] = ()
    status: Status = "open"
    error: str | None = None
    ended: float | None = None
    """When it ended, in seconds since 1970."""

    @property
    def last(self) -> Evaluated | None:
        """The last evaluation."""
        return self.reports[-1] if self.reports else None

    def goal(self, targets: Sequence[str]) -> list[float] | None:
        """The last value of each metric; None where there was no evaluation."""
        return None if self.last is None else [self.last.values[target] for target in targets]


@final
@frozen(kw_only=True)
class Said:
    """What a trial tells whoever runs it."""

    number: int
    epoch: int = 0
    seconds: float = 0.0
    values: Mapping[str, float] = field(factory=dict)
    """The values of the sweep's metrics; none where it failed."""
    status: Status = "open"
    error: str | None = None


def write_answers(store: Store, number: int, answers: Answers) -> None:
    """Records what a trial is asked for, before it starts."""
    write_json(store, f"{name_of(number)}/answers.json", answers)


def write_reports(store: Store, number: int, reports: Sequence[Evaluated]) -> None:
    """Records the evaluations of a trial."""
    write_json(store, f"{name_of(number)}/reports.json", [asdict(report) for report in reports])


def write_outcome(store: Store, number: int, status: Status, error: str | None = None) -> None:
    """Records how a trial ended."""
    write_json(store, f"{name_of(number)}/outcome.json", {"status": status, "error": error, "ended": time.time()})


def record_of(store: Store, number: int) -> Record | None:
    """What is known of a trial; None if it was never asked for anything.

    Raises:
        ModelFileError: If a file of it is damaged.
    """
    name = name_of(number)
    answers = read_json(store, f"{name}/answers.json")
    if answers is None:
        return None
    outcome = read_json(store, f"{name}/outcome.json") or {"status": "open", "error": None, "ended": None}
    try:
        reports = reports_of(store, number)
        return Record(number=number, answers=dict(answers), reports=reports, **outcome)
    except (TypeError, KeyError, ValueError) as error:
        raise ModelFileError(f"The files of trial {name} in {store.address!r} are not a trial's: {error!r}.") from error


def reports_of(store: Store, number: int) -> tuple[Evaluated, ...]:
    """The evaluations of a trial so far."""
    return tuple(Evaluated(**report) for report in read_json(store, f"{name_of(number)}/reports.json") or [])


def records_of(store: Store) -> list[Record]:
    """What is known of every trial."""
    return [record for number in store.numbers() if (record := record_of(store, number)) is not None]
