"""A sweep from its file to its leaderboard, and the folder that it leaves.

::

    sweeps/mfeat/  sweep.json       what was asked for
                   trials/          one folder a trial, that of a run; elsewhere with [sweep] storage
                   leaderboard.csv  and .md: every trial, the best first
                   report/          figures
                   best/            the best model, as ``mvcore.save`` writes it
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from attrs import field, frozen

from mvcore.errors import ConfigError, ModelFileError, TrainingError
from mvcore.extras import require
from mvcore.storage.lock import locked
from mvcore.storage.writing import write_whole
from mvcore.sweeps import leaderboard
from mvcore.sweeps.config import Plan, plan_of, read
from mvcore.sweeps.folder import asked_in, check_folder, store_in
from mvcore.sweeps.records import Record, records_of
from mvcore.sweeps.results import clear, load, write_best, write_leaderboard, write_report
from mvcore.sweeps.validation import check
from mvcore.sweeps.watch import best_of

if TYPE_CHECKING:
    import pandas as pd

    from mvcore.models.base import Model
    from mvcore.runs.run import RunData
    from mvcore.sweeps.search import Book
    from mvcore.sweeps.store import Store
    from mvcore.sweeps.watch import Watch


@final
@frozen(kw_only=True)
class Sweep:
    """What a sweep found so far."""

    out: Path
    """Its folder."""
    records: tuple[Record, ...] = field(repr=False)
    """Every trial, by number."""
    plan: Plan = field(repr=False)

    @classmethod
    def of(cls, out: str | Path) -> Sweep:
        """The sweep of a folder, finished or not.

        Raises:
            ModelFileError: If it is not the folder of a sweep.
        """
        plan = plan_of(asked_in(Path(out)))
        return cls(out=Path(out), records=tuple(records_of(store_in(plan, Path(out)))), plan=plan)

    @property
    def table(self) -> pd.DataFrame:
        """The leaderboard: one row a trial, the best first.

        Raises:
            MissingExtraError: Without pandas.
        """
        frame: pd.DataFrame = require("pandas", "sweep", "A table").DataFrame(leaderboard.rows(self.plan, self.records))
        return frame

    @property
    def best(self) -> Record | None:
        """The finished trial that is best by the first metric."""
        return best_of(self.plan, list(self.records))

    @property
    def front(self) -> list[Record]:
        """The finished trials that none is better than in one metric and as good in all others."""
        return leaderboard.front(self.plan, self.records)

    @property
    def failures(self) -> dict[int, str]:
        """The error of each trial that failed, by its number."""
        return {record.number: record.error or "" for record in self.records if record.status == "failed"}

    def load(self, trial: int | None = None) -> Model:
        """The model of a trial, by default the best.

        Raises:
            ModelFileError: If there is no such trial, or its model was not kept.
        """
        record = self.best if trial is None else next((r for r in self.records if r.number == trial), None)
        if record is None:
            raise ModelFileError(
                f"{str(self.out)!r} has no {'finished trial' if trial is None else f'trial {trial!r}'}."
            )
        return load(store_in(self.plan, self.out), record)


def sweep(
    config: str | Path | Mapping[str, Any],
    *,
    out: str | Path,
    resume: bool = True,
    progress: bool = True,
    changes: Sequence[str] = (),
) -> Sweep:
    """Trains many configs of a space and compares them on validation rows.

    Args:
        config: A TOML file with the tables ``[data]``, ``[space]``, ``[sweep]`` and, if wanted, ``[model]`` and
            ``[training]``; or these tables.
        out: The folder of the sweep.
        resume: Whether a sweep that is in the folder goes on; nothing is trained twice.
        progress: Whether to show a table of the trials.
        changes: Values to set in the file's tables, each ``"table.field=value"``.

    Raises:
        ConfigError: If anything does not fit, in any part of the space; it has all problems. Nothing was started.
        ModelFileError: If the folder holds something else, or another sweep.
        TrainingError: If all trials failed; it says of what.
        NotPackagedError: If it names a component of ``mvcore.local``, which no worker has.
        MissingExtraError: Without Ray or Optuna, where they are asked for.
        FileAccessError: If another process works in the folder.
    """
    where = "the sweep" if isinstance(config, Mapping) else str(config)
    folder, plan = Path(out), check(read(config, changes), where)
    _check_extras(plan)
    check_folder(folder, plan, resume)
    return _swept(plan, where, folder, progress)


def _swept(plan: Plan, where: str, folder: Path, progress: bool) -> Sweep:
    from mvcore.runs.run import run_data
    from mvcore.sweeps.search import Book
    from mvcore.sweeps.watch import Watch
    from mvcore.training.tracking import check_trackers

    rows = run_data(plan.plain["data"])
    plan = check(plan.plain, where, rows.train.schema)
    check_trackers(tuple(plan.plain.get("training", {}).get("trackers", ())))
    store = store_in(plan, folder)
    with locked(folder):
        book = Book(plan, store)
        if book.left and not any(record.reports for record in book.records.values()):
            _check_metrics(plan, book, rows)
        write_whole(folder / "sweep.json", plan.json().encode())
        watch = Watch(plan, book.records, book.total, show=progress)
        try:
            if book.left:
                _run(book, rows, watch)
        finally:
            watch.close()
            write_leaderboard(plan, list(book.records.values()), folder)
        _conclude(plan, store, book, folder)
    return Sweep(out=folder, records=tuple(book.records[n] for n in sorted(book.records)), plan=plan)


def _run(book: Book, rows: RunData, watch: Watch) -> None:
    if book.plan.sweep.address == "here":
        from mvcore.sweeps.here import run_here

        run_here(book, rows, watch)
    else:
        from mvcore.sweeps.cluster import run_on_ray

        run_on_ray(book, rows, watch)


def _conclude(plan: Plan, store: Store, book: Book, folder: Path) -> None:
    """What is left of a sweep whose trials have all ended."""
    records = list(book.records.values())
    if failed := _failed(records):
        raise TrainingError(failed)
    clear(plan, store, records, [record.number for record in records])
    write_report(plan, records, folder)
    write_best(plan, store, records, folder, folder.name)


def _failed(records: Sequence[Record]) -> str | None:
    """What to say where no trial was finished."""
    if not records or any(record.status == "finished" for record in records):
        return None
    texts: dict[str, list[int]] = {}
    for record in records:
        texts.setdefault(record.error or record.status, []).append(record.number)
    listed = [f"{', '.join(map(str, numbers[:8]))}{' …' if len(numbers) > 8 else ''}: {' '.join(text.split())}"
              for text, numbers in texts.items()]  # fmt: skip
    return "\n  ".join([f"All {len(records)} trials of the sweep failed:", *listed])


def _check_extras(plan: Plan) -> None:
    """Says which extra is missing, before anything is read."""
    if plan.sweep.address != "here":
        require("ray.tune", "sweep", "A sweep with Ray")
    if plan.sweep.search == "optuna":
        require("optuna", "sweep", "The search 'optuna'")


def _check_metrics(plan: Plan, book: Book, rows: RunData) -> None:
    """Evaluates a model that was not trained: a metric that there is not must not be found out after hours.

    Raises:
        ConfigError: If a metric can't be computed, or gives no value of the name.
    """
    from mvcore.errors import MissingExtraError, MvcoreError
    from mvcore.sweeps.search import samples
    from mvcore.sweeps.untrained import check_values

    answers = samples(plan, 1)[0]
    try:
        check_values(plan, answers, rows)
    except MissingExtraError:
        raise
    except MvcoreError as error:
        raise ConfigError([f"sweep.metric: {error}"], "the sweep") from error
