"""Trials one after the other in this process, without Ray: what a cluster does, where nothing else is at hand."""

from __future__ import annotations

import logging
from pathlib import Path

from mvcore.errors import MvcoreError
from mvcore.runs.run import RunData
from mvcore.sweeps.records import Record, Said, record_of, write_outcome
from mvcore.sweeps.search import Book
from mvcore.sweeps.trial import trial
from mvcore.sweeps.watch import Watch

log = logging.getLogger(__name__)


def run_here(book: Book, rows: RunData, watch: Watch) -> None:
    """Trains every trial that is left.

    Raises:
        KeyboardInterrupt: At the end of a step, its checkpoint saved; the sweep goes on from there.
    """
    while (record := book.next()) is not None:
        watch.begun(record.number)
        said = _tried(book, record, rows, watch)
        now = record_of(book.store, record.number)
        assert now is not None
        book.over(said, said.status, now)
        watch.ended(now)


def _tried(book: Book, record: Record, rows: RunData, watch: Watch) -> Said:
    """What a trial said last; one that breaks off is tried again."""
    heard = Said(number=record.number)

    def report(said: Said, checkpoint: Path | None) -> None:
        nonlocal heard
        heard = said
        watch.reported(said)

    for left in reversed(range(book.plan.sweep.retries + 1)):
        try:
            trial(book.plan, book.store, record.number, record.answers, rows, report)
            return heard
        except MvcoreError:
            raise
        except Exception as error:
            log.warning("Trial %d broke off: %s: %s", record.number, type(error).__name__, error)
            if not left:
                text = f"{type(error).__name__}: {error}"
                write_outcome(book.store, record.number, "failed", text)
                heard = Said(number=record.number, status="failed", error=text)
                watch.reported(heard)
    return heard
