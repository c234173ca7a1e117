"""What Ray Tune is given: a searcher that hands out configs, a trainable, a callback that keeps the book.

Only this module, ``cluster``, ``connection``, ``schedulers`` and ``workers`` import Ray. Tune pickles what it is given
beside its own state, from which nothing is ever restored: a sweep goes on from the files of its trials.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import asdict
from ray import tune
from ray.tune.search import Searcher

from mvcore.storage.writing import write_whole
from mvcore.sweeps.config import Plan, plan_of
from mvcore.sweeps.records import Record, Said, record_of, write_answers, write_outcome
from mvcore.sweeps.schedulers import GOAL
from mvcore.sweeps.search import Book
from mvcore.sweeps.store import Store, name_of, store_of
from mvcore.sweeps.versions import check_versions
from mvcore.sweeps.watch import Watch
from mvcore.training.checkpoint import FILE


class HandsOut(Searcher):
    """Hands out the trials of a book, in its order.

    Args:
        book: The book.
    """

    def __init__(self, book: Book) -> None:
        super().__init__()
        self._book: Book | None = book

    def suggest(self, trial_id: str) -> Any:
        """The config of the next trial."""
        record = None if self._book is None else self._book.next()
        return Searcher.FINISHED if record is None else {"trial": asked(record)}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """The callback enters it in the book."""

    def save(self, checkpoint_path: str) -> None:
        """Tune wants a file; the book is in the store."""
        Path(checkpoint_path).write_bytes(b"")

    def restore(self, checkpoint_path: str) -> None:
        """Nothing is restored from Tune's files."""

    def __getstate__(self) -> dict[str, Any]:
        return {"_metric": None, "_mode": None, "_book": None}


def asked(record: Record) -> dict[str, Any]:
    """What a trial of Tune is told; answers as text, for Tune would look for searches of its own in them."""
    return {"number": record.number, "answers": json.dumps(record.answers)}


def all_at_once(book: Book) -> dict[str, Any]:
    """Every trial that is left as one list, which is what Tune wants where trials take each other over."""
    left: list[Record] = []
    while (record := book.next()) is not None:
        left.append(record)
    return {"trial": tune.grid_search([asked(record) for record in left])}


class KeepsBook(tune.Callback):
    """Enters into the book how each trial ended, and shows what goes on.

    Args:
        book: The book.
        watch: Shows it.
    """

    def __init__(self, book: Book, watch: Watch) -> None:
        self._live: tuple[Book, Watch] | None = (book, watch)

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """A trial starts, or starts again."""
        if self._live is not None:
            self._live[1].begun(number_of(trial))

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
        """A trial was evaluated."""
        if self._live is not None and "said" in result:
            self._live[1].reported(Said(**json.loads(result["said"])))

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """A trial ended by itself or was stopped; in the latter case it had no time to say so."""
        self._over(number_of(trial), "stopped", None)

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """A trial failed as often as it may."""
        if self._live is not None:
            self._over(number_of(trial), "failed", last_error(self._live[0].store, number_of(trial)))

    def _over(self, number: int, status: Any, error: str | None) -> None:
        if self._live is None:
            return
        book, watch = self._live
        record = record_of(book.store, number)
        if record is not None and record.status == "open":
            write_outcome(book.store, number, status, error)
            record = record_of(book.store, number)
        assert record is not None
        book.over(Said(number=number), record.status, record)
        watch.ended(record)

    def __getstate__(self) -> dict[str, Any]:
        return {"_live": None}


def number_of(trial: Any) -> int:
    """The number of a trial of Tune; its config's may be that of the one it took over."""
    return int(trial.custom_trial_name)


def called(trial: Any) -> str:
    """The name of a trial, which it keeps whatever its config becomes."""
    return name_of(trial.config["trial"]["number"])


def last_error(store: Store, number: int) -> str:
    """What a trial that may not be tried again broke off with, as its process wrote it down."""
    content = store.read(f"{name_of(number)}/error.txt")
    return "its process died" if content is None else content.decode()


def train(config: Mapping[str, Any], shared: Mapping[str, Any]) -> None:
    """One trial, in a worker: all that it gets is plain.

    Args:
        config: Its number, and its answers as JSON.
        shared: The sweep's tables, where its trials are, the rows, the versions of the driver's plugins.
    """
    from mvcore.sweeps.workers import train_here, train_together

    plan, store = plan_of(shared["tables"]), store_of(shared["storage"])
    number, answers = int(tune.get_context().get_trial_name()), json.loads(config["trial"]["answers"])
    if shared["versions"] is not None:
        check_versions(shared["versions"])
    known = record_of(store, number)
    if known is None or known.answers != answers:
        write_answers(store, number, answers)
    before = tune.get_checkpoint() if plan.sweep.scheduler == "pbt" else None
    with tempfile.TemporaryDirectory(prefix="mvcore-from-") as restored:
        where = None if before is None else Path(before.to_directory(restored))
        run = train_together if plan.sweep.resources.workers > 1 else train_here
        store.remove(f"{name_of(number)}/error.txt")
        try:
            run(plan, shared, number, answers, _report(plan), where)
        except Exception as error:  # Ray tells the driver no more than that there was one
            store.write(f"{name_of(number)}/error.txt", f"{type(error).__name__}: {error}".encode())
            raise


def _report(plan: Plan) -> Any:
    """Tells Tune of an evaluation; a trial that is to stop ends here, by SystemExit."""

    def report(said: Said, checkpoint: Path | None) -> None:
        told = {"said": json.dumps(asdict(said)), "epoch": said.epoch}
        if said.values:
            told[GOAL] = said.values[plan.sweep.judged_by]
        if checkpoint is None or plan.sweep.scheduler != "pbt":
            tune.report(told)
            return
        with tempfile.TemporaryDirectory(prefix="mvcore-report-") as folder:  # the last checkpoint alone
            write_whole(Path(folder) / FILE, (checkpoint / FILE).read_bytes())
            tune.report(told, checkpoint=tune.Checkpoint.from_directory(folder))

    return report
