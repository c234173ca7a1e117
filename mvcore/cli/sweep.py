"""``mvcore sweep``: many configs of a space, trained and compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mvcore.cli import table
from mvcore.cli.train import _termination

if TYPE_CHECKING:
    from mvcore.sweeps.config import Plan

_SHOWN = 5  #: Configs that a dry run shows.


@click.command("sweep")
@click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Folder of the sweep; by default sweeps/NAME."
)
@click.option("--set", "changes", multiple=True, metavar="TABLE.FIELD=VALUE", help="Set a value; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Check everything, show the plan and some of the configs, start nothing.")
@click.option("--quiet", is_flag=True, help="Show no table of the trials.")
def command(config: Path, out: Path | None, changes: tuple[str, ...], dry_run: bool, quiet: bool) -> None:
    """Train and compare the models that CONFIG describes: a TOML file with the tables data, space and sweep.

    A sweep that was interrupted, or whose machine died, goes on where it stopped when the same command is given again.
    """
    if dry_run:
        click.echo(_planned(config, changes))
        return
    from mvcore.sweeps.sweep import sweep

    folder = out or Path("sweeps") / config.stem
    with _termination() as terminated:
        try:
            found = sweep(config, out=folder, changes=changes, progress=not quiet)
        except KeyboardInterrupt:
            click.echo(
                f"Interrupted. The trials so far are in {folder}/; the same command goes on from there.", err=True
            )
            raise click.exceptions.Exit(143 if terminated else 130) from None
    best = found.best
    if best is None:
        click.echo(f"No trial was finished. What there is is in {folder}/.")
        return
    failed = f", {len(found.failures)} failed" if found.failures else ""
    click.echo(f"{len(found.records)} trials{failed}. The best is trial {best.number}: {_reached(found.plan, best)}.")
    click.echo(f"Its model is in {folder / 'best'}/, the leaderboard in {folder / 'leaderboard.md'}.")


def _reached(plan: Plan, best: object) -> str:
    from mvcore.sweeps.records import Record
    from mvcore.sweeps.watch import shown_values

    assert isinstance(best, Record)
    return "" if best.last is None else shown_values(plan, best.last.values)


def _planned(config: Path, changes: tuple[str, ...]) -> str:
    """What a sweep would do, without torch and without Ray."""
    from mvcore.sweeps.config import read
    from mvcore.sweeps.search import samples, size
    from mvcore.sweeps.validation import check

    plan = check(read(config, changes), str(config))
    shown = samples(plan, min(_SHOWN, size(plan)))
    lines = [_summary(plan, size(plan)), ""]
    for number, answers in enumerate(shown):
        rows = [["", ""], *([name, json.dumps(value)] for name, value in answers.items())]
        lines += [f"config {number}", *(f"  {line}" for line in table(rows).splitlines()[1:]), ""]
    return "\n".join(lines).rstrip()


def _summary(plan: Plan, count: int) -> str:
    sweep, each = plan.sweep, plan.sweep.resources
    goals = ", ".join(f"{target} ({way})" for target, way in sweep.metric.items())
    rows = [
        ["", ""],
        [
            "trials",
            f"{count}, chosen by {sweep.search}" + ("" if sweep.search != "optuna" else "; it begins at random"),
        ],
        ["metric", goals + (" as a Pareto front" if len(sweep.metric) > 1 else "")],
        ["scheduler", sweep.scheduler + ("" if sweep.scheduler == "none" else f", by {sweep.judged_by}")],
        ["reports", "at the end" if sweep.report_epochs is None else f"every {sweep.report_epochs} epochs"],
        ["resources", f"{each.cpu:g} CPU, {each.gpu:g} GPU for each of {each.workers} worker(s) of a trial"],
        ["address", sweep.address],
    ]
    return "\n".join(table(rows).splitlines()[1:])
