"""``mvcore impute``: tables of new rows, filled."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from mvcore.cli._models import MODEL, loaded


@click.command("impute")
@click.argument("model", type=MODEL)
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of the filled tables."
)
@click.option("--interval", type=click.FloatRange(0, 1, min_open=True, max_open=True), help="Also limits, such as 0.9.")
@click.option("--draws", default=500, show_default=True, help="Draws of each row.")
@click.option("--seed", default=0, show_default=True, help="Seed of the draws.")
def command(model: Path | str, data: Path, out: Path, interval: float | None, draws: int, seed: int) -> None:
    """Fill the tables in the folder DATA, one file a modality, by MODEL, a saved model, a run, or hf://user/name.

    Rows are matched by the first column, as text; where MODEL is a run, files are read as its config says. Every table
    of OUT has every row, and what was observed is kept: labs.csv, and with --interval labs_low.csv and labs_high.csv;
    of categories labs_probabilities.csv.
    """
    import mvcore
    from mvcore import runs
    from mvcore.data.names import file_name
    from mvcore.errors import DataError
    from mvcore.storage.writing import refuse_full, whole_folder

    refuse_full(out)
    found = loaded(model)
    say = partial(click.echo, err=True)
    rows = runs.rows_for(found, model, data, say)
    filled = mvcore.impute(found, rows, interval=interval, K=draws, seed=seed)
    with whole_folder(out) as folder:
        for name, part in filled.items():
            tables = {"": part.filled, "_low": part.low, "_high": part.high, "_probabilities": part.probabilities}
            for suffix, table in tables.items():
                file = folder / f"{file_name(name)}{suffix}.csv"
                if file.exists():
                    raise DataError(f"Two tables would be called {file.name!r}; rename the modality {name!r}.")
                if table is not None:
                    table.to_csv(file)
    click.echo(f"Filled {len(rows)} rows of {len(filled)} modalities; the tables are in {out}/.")
