"""One trial: trained, evaluated and saved in its folder. It knows nothing of what runs it, and goes on where it was."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, final

import torch
from attrs import evolve

import mvcore
from mvcore import config as configs
from mvcore.build import create_from
from mvcore.errors import FileAccessError, MvcoreError
from mvcore.models.base import Model
from mvcore.options import TrainingConfig
from mvcore.runs.run import RunData
from mvcore.storage.lock import locked
from mvcore.storage.writing import write_whole
from mvcore.sweeps.config import Plan
from mvcore.sweeps.records import Evaluated, Said, record_of, reports_of, write_outcome, write_reports
from mvcore.sweeps.scores import values_of_model
from mvcore.sweeps.space import Answers
from mvcore.sweeps.store import Folder, Store
from mvcore.training.checkpoint import FILE
from mvcore.training.fit import Run
from mvcore.training.hooks import hookimpl
from mvcore.training.ranks import is_first

#: What a trial tells, with the folder of its checkpoint while it trains.
Report = Callable[[Said, Path | None], None]
_PATIENCE = 60.0  # seconds that a process which is about to die may take to let go of a folder


def trial(
    plan: Plan,
    store: Store,
    number: int,
    answers: Answers,
    rows: RunData,
    report: Report,
    restore: Path | None = None,
) -> None:
    """Trains what the answers choose, from its checkpoint if it has one, and reports evaluations of validation rows.

    Errors that would come again (of the config, the data, the training) are its outcome, ``failed``; others are raised,
    and whoever runs it may try again. What ``report`` raises ends it.

    Args:
        plan: The sweep.
        store: Where its folder is.
        number: Its number.
        answers: What the search chose.
        rows: The rows of the sweep; they are never written to.
        report: Told of each evaluation, the last one after everything is saved.
        restore: A folder with the checkpoint of another trial to go on from, with the options of this one.
    """
    known = record_of(store, number)
    if known is not None and known.status == "finished" and known.last is not None and restore is None:
        report(_said(plan, number, known.last, "finished"), None)
        return
    with store.folder(number) as folder:
        try:
            last = _trained(plan, store, number, answers, rows, report, restore, folder)
        except FileAccessError:
            raise
        except MvcoreError as error:
            if is_first():
                write_outcome(store, number, "failed", str(error))
            report(Said(number=number, status="failed", error=str(error)), None)
            return
    if last is not None:
        report(_said(plan, number, last, "finished"), None)


def _trained(
    plan: Plan, store: Store, number: int, answers: Answers, rows: RunData, report: Report, restore: Path | None,
    folder: Folder,
) -> Evaluated | None:  # fmt: skip
    """The last evaluation of a trial that was trained to its end; None if it was stopped."""
    tables = plan.tables(answers, rows.train.schema.names)
    model, options = built(tables, rows)
    checkpoint = folder.path / "checkpoint"
    _until_free(checkpoint)
    if is_first():
        write_whole(folder.path / "config.json", json.dumps(tables, indent=1).encode())
    if restore is not None:
        _take(restore, checkpoint)
    reporter = _Reporter(plan, store, number, rows, report, folder, options)
    given = {name: getattr(options, name) for name in tables["training"] if name != "checkpoint_epochs"}
    run = mvcore.fit(
        model, rows.train, checkpoint=checkpoint, resume=restore is None, fork=restore is not None,
        checkpoint_epochs=_every(plan, tables["training"], options.epochs), callbacks=[reporter], progress=False,
        **given,
    )  # fmt: skip
    if run.stopped:
        return None
    return _ended(run, reporter, folder)


def built(tables: Mapping[str, Any], rows: RunData) -> tuple[Model, TrainingConfig]:
    """The model of a trial's tables, its weights drawn by the seed, and how it is trained, its recipe included."""
    given = tables["training"]
    options = configs.structure_as(TrainingConfig, given, path="training")
    torch.manual_seed(options.seed)
    fields = {name: value for name, value in tables["model"].items() if name != "use"}
    model = create_from(tables["model"]["use"], rows.train, fields)
    recipe = TrainingConfig() if model.config is None else model.config.recipe()
    return model, evolve(recipe, **{name: getattr(options, name) for name in given})


def _ended(run: Run, reporter: _Reporter, folder: Folder) -> Evaluated:
    """Scores and saves the last weights; the outcome is written when all else is."""
    last = reporter.evaluated(run.model, len(run.history), run.history[-1]["stage"])
    if is_first():
        write_whole(folder.path / "history.json", json.dumps(run.history, indent=1).encode())
        mvcore.save(run.model, folder.path / "model")
        folder.keep()
        write_outcome(reporter.store, reporter.number, "finished")
    return last


def _every(plan: Plan, training: Mapping[str, Any], epochs: int) -> int:
    """Epochs between two checkpoints: one before each evaluation; where there is but one, ten in all."""
    return plan.sweep.report_epochs or training.get("checkpoint_epochs") or max(1, epochs // 10)


@final
class _Reporter:
    """The hook that evaluates a trial after the checkpoint of an epoch that is to be reported."""

    def __init__(
        self,
        plan: Plan,
        store: Store,
        number: int,
        rows: RunData,
        report: Report,
        folder: Folder,
        options: TrainingConfig,
    ) -> None:
        self.plan, self.store, self.number, self.rows, self.report = plan, store, number, rows, report
        self.folder, self.options = folder, options
        self.reports = list(reports_of(store, number))
        self._began, self._before = time.monotonic(), self.reports[-1].seconds if self.reports else 0.0
        self._ended: int | None = None  # the epoch that has just ended, not yet saved

    @hookimpl
    def mvcore_epoch_end(self, row: Mapping[str, Any]) -> None:
        """Notes that the next checkpoint is that of the end of an epoch."""
        self._ended = int(row["epoch"]) + 1

    @hookimpl
    def mvcore_checkpoint(self, model: Model, row: Mapping[str, Any] | None) -> None:
        """Evaluates, if the epoch is one to report; the last one is reported after the training."""
        epoch, self._ended = self._ended, None
        if is_first():
            self.folder.keep()
        every = self.plan.sweep.report_epochs
        if row is None or epoch is None or every is None or epoch % every or epoch >= self.options.epochs:
            return
        if is_first():
            found = self.evaluated(model, epoch, row["stage"])
            self.report(_said(self.plan, self.number, found, "open"), self.folder.path / "checkpoint")

    def evaluated(self, model: Model, epoch: int, stage: str) -> Evaluated:
        """The values of the validation rows, recorded."""
        values = values_of_model(self.plan, model, self.rows, self.options.batch_size, stage) if is_first() else {}
        seconds = self._before + time.monotonic() - self._began
        found = Evaluated(epoch=epoch, seconds=round(seconds, 3), values=values)
        # a trial that goes on from an earlier epoch, its own or another's, has not had the later ones
        self.reports = [report for report in self.reports if report.epoch < epoch] + [found]
        if is_first():
            write_reports(self.store, self.number, self.reports)
        return found


def _said(plan: Plan, number: int, found: Evaluated, status: Any) -> Said:
    values = {target: found.values[target] for target in plan.sweep.targets if target in found.values}
    return Said(number=number, epoch=found.epoch, seconds=found.seconds, values=values, status=status)


def _take(restore: Path, checkpoint: Path) -> None:
    """Puts another trial's checkpoint in the place of this one's."""
    if is_first():
        checkpoint.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(restore / FILE, checkpoint / f".{FILE}-taken")
        (checkpoint / f".{FILE}-taken").replace(checkpoint / FILE)


def _until_free(checkpoint: Path) -> None:
    """Waits for a process of this trial that is about to end, such as the one of a driver that was killed."""
    began = time.monotonic()
    while is_first() and time.monotonic() - began < _PATIENCE:
        with suppress(FileAccessError), locked(checkpoint):
            return
        time.sleep(0.5)
