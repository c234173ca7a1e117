"""``mvcore train``: a training described in a file."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click


@click.command("train")
@click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Folder of the run; by default runs/NAME."
)
@click.option("--set", "changes", multiple=True, metavar="TABLE.FIELD=VALUE", help="Set a value; may be repeated.")
@click.option("--quiet", is_flag=True, help="Show no progress bar.")
def command(config: Path, out: Path | None, changes: tuple[str, ...], quiet: bool) -> None:
    """Train the model that CONFIG describes, a TOML file with the tables data, model and training.

    A run that was interrupted goes on where it stopped when the same command is given again. Under torchrun the batches
    are divided among the ranks.
    """
    from mvcore import runs

    folder = out or Path("runs") / config.stem
    finished = (folder / "model").exists()
    with _termination() as terminated:
        try:
            run = runs.train(config, folder, changes, progress=not quiet, say=partial(click.echo, err=True))
        except KeyboardInterrupt:
            saved = (folder / "checkpoint" / "checkpoint.pt").exists()
            where = f"The training so far is in {folder}/; the same command goes on from there."
            click.echo(f"Interrupted. {where if saved else 'Nothing was trained yet.'}", err=True)
            raise click.exceptions.Exit(143 if terminated else 130) from None
    last = run.history[-1]
    done = "The run was finished already, after" if finished else "Trained"
    click.echo(f"{done} {len(run.history)} epochs; loss {last['loss']:.4g}. The model is in {folder / 'model'}/.")


@contextmanager
def _termination() -> Iterator[list[int]]:
    """Inside, SIGTERM interrupts as Ctrl-C does, and is listed."""
    terminated: list[int] = []

    def terminate(number: int, frame: object) -> None:
        from mvcore.training.interrupts import interrupt

        terminated.append(number)
        interrupt()

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield terminated
    finally:
        signal.signal(signal.SIGTERM, before)
