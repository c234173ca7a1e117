"""``mvcore evaluate``: metrics of a trained model."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mvcore.cli._models import MODEL, loaded

if TYPE_CHECKING:
    from mvcore.data.dataset import MultimodalDataset
    from mvcore.models.base import Model


@click.command("evaluate")
@click.argument("run", type=MODEL)
@click.option(
    "--metric", "metrics", multiple=True, help="Only this metric; may be repeated. `mvcore plugins --kind metric`"
)
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of tables to read in place of the data that RUN names.",
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Also write tables and figures here.")
@click.option("--seed", default=0, show_default=True, help="Seed of the draws.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@click.option("--quiet", is_flag=True, help="Show no progress bar.")
def command(
    run: Path | str,
    metrics: tuple[str, ...],
    data: Path | None,
    out: Path | None,
    seed: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """Evaluate the model of RUN, a folder that `mvcore train` left, on the rows that it was not trained on.

    A saved model, or one on the Hub (hf://user/name), is evaluated on all rows of the tables in --data.

    The data of a run are read where they are below the current folder or beside the run; others have to be named by
    --data, for a run can come from anyone.
    """
    import mvcore
    from mvcore.storage.writing import refuse_full

    if out is not None:
        refuse_full(out)
    model, test, train = _asked(run, data)
    asked = list(metrics) or None
    report = mvcore.evaluate(model, test, train=train, metrics=asked, seed=seed, progress=not quiet)
    click.echo(report.json() if as_json else report.markdown())
    if out is not None:
        report.save(out)


def _asked(run: Path | str, data: Path | None) -> tuple[Model, MultimodalDataset, MultimodalDataset | None]:
    """The model, the rows to evaluate it on, and those that it was trained on, where they are known."""
    from mvcore import runs
    from mvcore.errors import DataError

    if data is not None and runs.model_folder(run) == run:
        model = loaded(run)
        return model, runs.rows_for(model, run, data, partial(click.echo, err=True)), None
    if isinstance(run, str):
        raise DataError(f"{run} is a saved model, which knows no data; name a folder of tables by --data.")
    rows = runs.data_of(run, data)
    if rows.test is None:
        raise DataError("The run was trained on all rows (data.train = 1); none are left to evaluate it on.")
    return loaded(run), rows.test, rows.train
