"""``mvcore demo``: the defaults on two partially observed data sets."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("demo")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), default=Path("demo-output"), show_default=True,
    help="Folder of the figures, tables and models.",
)  # fmt: skip
def command(out: Path) -> None:
    """Train multimodal on digits with hidden views and on a partial tumour cohort; write figures and models."""
    from mvcore.cli import _demo

    _demo.run(out)
