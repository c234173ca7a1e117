"""What a sweep leaves in its folder: leaderboard, report, the best model."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mvcore.errors import MissingExtraError
from mvcore.storage.writing import write_whole
from mvcore.sweeps.config import Plan
from mvcore.sweeps.leaderboard import front, rows, write_csv, write_markdown
from mvcore.sweeps.records import Record
from mvcore.sweeps.store import CHECKPOINTS, Store, name_of
from mvcore.sweeps.watch import ranking, shown_values

if TYPE_CHECKING:
    from mvcore.models.base import Model

log = logging.getLogger(__name__)


def write_leaderboard(plan: Plan, records: Sequence[Record], out: Path) -> None:
    """Writes ``leaderboard.csv`` and ``leaderboard.md``."""
    found = rows(plan, records)
    write_whole(out / "leaderboard.csv", write_csv(found))
    write_whole(out / "leaderboard.md", write_markdown(plan, found))


def write_report(plan: Plan, records: Sequence[Record], out: Path) -> None:
    """Writes the figures; without matplotlib the log says that there are none."""
    from mvcore.sweeps.figures import drawn

    try:
        figures = dict(drawn(plan, records))
    except MissingExtraError as error:
        log.warning("The report has no figures. %s", error)
        return
    (out / "report").mkdir(exist_ok=True)
    for name, figure in figures.items():
        write_whole(out / "report" / f"{name}.png", _png(figure))


def kept(plan: Plan, records: Sequence[Record]) -> set[int]:
    """The trials that keep their models: the best ones, and those of the Pareto front."""
    best = ranking(plan, list(records))[: plan.sweep.keep]
    return {record.number for record in [*best, *(front(plan, records) if len(plan.sweep.metric) > 1 else [])]}


def clear(plan: Plan, store: Store, records: Sequence[Record], of: Sequence[int]) -> None:
    """Removes the checkpoints of trials that ended, and the models of those that are behind."""
    keep = kept(plan, records)
    for number in of:
        for name in CHECKPOINTS:
            store.remove(f"{name_of(number)}/{name}")
        if number not in keep:
            store.remove(f"{name_of(number)}/model")


def write_best(plan: Plan, store: Store, records: Sequence[Record], out: Path, name: str) -> Path | None:
    """Saves the best model as ``best/``, its card naming the sweep; None where no trial was finished."""
    import mvcore

    best = next(iter(ranking(plan, list(records))), None)
    if best is None:
        return None
    model = retrained(plan, best) if plan.sweep.retrain else load(store, best)
    mvcore.save(model, out / "best")
    card = (out / "best" / "README.md").read_text(encoding="utf-8")
    write_whole(out / "best" / "README.md", f"{card}\n{_about(plan, best, len(records), name)}".encode())
    return out / "best"


def load(store: Store, record: Record) -> Model:
    """The model of a trial.

    Raises:
        ModelFileError: If it was not kept.
    """
    import mvcore
    from mvcore.errors import ModelFileError

    with store.folder(record.number) as folder:
        if not (folder.path / "model").is_dir():
            raise ModelFileError(
                f"The model of trial {record.number} ({record.status}) was not kept: a sweep keeps those of its best "
                "trials, as many as [sweep] keep says.",
                path=folder.path,
            )
        return mvcore.load(folder.path / "model")


def retrained(plan: Plan, record: Record) -> Model:
    """The config of a trial trained once more, on the rows that it was trained on and those it was judged by."""
    import mvcore
    from mvcore.runs.run import RunData, run_data
    from mvcore.sweeps.trial import built

    rows = run_data({**plan.plain["data"], "validation": 0.0}).train
    tables = plan.tables(record.answers, rows.schema.names)
    model, options = built(tables, RunData(train=rows, validation=None, test=None))
    return mvcore.fit(model, rows, progress=False, **{n: getattr(options, n) for n in tables["training"]}).model


def _about(plan: Plan, best: Record, trials: int, name: str) -> str:
    """What the card of the best model says of its sweep."""
    assert best.last is not None
    answers = "\n".join(f"- `{path}`: `{json.dumps(value)}`" for path, value in best.answers.items())
    how = "trained once more, on the training and the validation rows" if plan.sweep.retrain else "as it was trained"
    return (
        f"## The sweep\n\nThis is trial {best.number} of {trials} of the sweep `{name}`, {how}: the best by "
        f"{plan.sweep.targets[0]}.\nOn the validation rows that chose it: {shown_values(plan, best.last.values)}; "
        f"{best.last.epoch} epochs.\n\n{answers}\n"
    )


def _png(figure: Any) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
