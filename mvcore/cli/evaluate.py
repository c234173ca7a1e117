"""``mvcore evaluate``: metrics of a trained model."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("evaluate")
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
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
    run: Path, metrics: tuple[str, ...], data: Path | None, out: Path | None, seed: int, as_json: bool, quiet: bool
) -> None:
    """Evaluate the model of RUN, a folder that `mvcore train` left, on the rows that it was not trained on.

    The data of a run are read where they are below the current folder or beside the run; others have to be named by
    --data, for a run can come from anyone.
    """
    import mvcore
    from mvcore import runs
    from mvcore.errors import DataError
    from mvcore.storage.writing import refuse_full

    if out is not None:
        refuse_full(out)
    rows = runs.data_of(run, data)
    if rows.test is None:
        raise DataError("The run was trained on all rows (data.train = 1); none are left to evaluate it on.")
    model = mvcore.load(runs.model_folder(run))
    asked = list(metrics) or None
    report = mvcore.evaluate(model, rows.test, train=rows.train, metrics=asked, seed=seed, progress=not quiet)
    click.echo(report.json() if as_json else report.markdown())
    if out is not None:
        report.save(out)
