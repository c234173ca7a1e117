"""``mvcore push``: a model for everyone, or for some, on the Hugging Face Hub."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from mvcore.cli._models import MODEL, loaded


@click.command("push")
@click.argument("model", type=MODEL)
@click.argument("repo")
@click.option(
    "--license", help="Its licence, as the Hub calls it: apache-2.0, cc-by-4.0, other. Asked for, if left out."
)
@click.option(
    "--private/--public", default=None, help="Who may see it; by default as the repository or account has it."
)
@click.option("--revision", help="The branch, made if there is none; main by default.")
@click.option("--message", help="The commit's message.")
@click.option(
    "--report",
    type=click.Path(exists=True, path_type=Path),
    help="Its evaluation, the folder that `mvcore evaluate --out` left; by default RUN/report, if there is one.",
)
@click.option(
    "--figure",
    "figures",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="An image for the card, a PNG file; may be repeated.",
)
@click.option(
    "--dataset", "datasets", multiple=True, help="What it was trained on, as the Hub calls it; may be repeated."
)
def command(
    model: Path | str,
    repo: str,
    license: str | None,
    private: bool | None,
    revision: str | None,
    message: str | None,
    report: Path | None,
    figures: tuple[Path, ...],
    datasets: tuple[str, ...],
) -> None:
    """Put MODEL, a saved model or a run, into the repository REPO, user/name, on the Hugging Face Hub.

    What goes there: the config, the weights, a card, the report and the figures that are named; of the data nothing
    but names and counts of rows. `hf auth login` or HF_TOKEN says who you are.
    """
    import mvcore

    if license is None and _someone_can_answer():
        license = (
            click.prompt("Licence, such as apache-2.0 (none: press Enter)", default="", show_default=False) or None
        )
    if report is None and isinstance(model, Path) and (model / "report" / "report.json").is_file():
        report = model / "report"
    pushed = mvcore.push(
        loaded(model), repo, private=private, revision=revision, message=message, license=license, report=report,
        figures=figures, datasets=datasets,
    )  # fmt: skip
    if pushed.changed:
        click.echo(f"Pushed: {pushed.url}\nmvcore.load({str(pushed)!r}) gives this very model.")
    else:
        click.echo(f"Nothing has changed; {pushed} holds this very model.")


def _someone_can_answer() -> bool:
    return sys.stdin.isatty()
