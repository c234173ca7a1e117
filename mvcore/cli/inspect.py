"""``mvcore inspect``: what a saved or shared model says of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mvcore.cli import table
from mvcore.cli._models import MODEL

if TYPE_CHECKING:
    from mvcore.sharing import Inspection

_LINES = 400  # of the card and of the config that are shown


@click.command("inspect")
@click.argument("model", type=MODEL)
@click.option("--json", "as_json", is_flag=True, help="Write JSON, with nothing left out.")
def command(model: Path | str, as_json: bool) -> None:
    """Show the card, config, requirements, schema and sizes of MODEL: a saved model, a run, or hf://user/name.

    Loads no weights and imports no plugin. What it shows is what the model's author wrote.
    """
    from mvcore import runs, sharing

    found = sharing.inspect(runs.model_folder(model))
    click.echo(_escaped(found.json()) if as_json else _text(found))


def _text(found: Inspection) -> str:
    config = found.config
    schema = {"schema": config["schema"]}
    written = {name: part for name, part in config.items() if name not in ("schema", "requires")}
    sizes = table([("file", "bytes"), *((name, f"{size:,}") for name, size in found.sizes.items())])
    needs = "\n".join(["mvcore " + str(config["mvcore"].get("version")), *found.requires])
    parts = {"model": found.where, "files": sizes, "requires": needs, "card": found.card.strip() or "none"}
    if found.unknown:
        parts["not known"] = f"{', '.join(found.unknown)}: the Hub can't be reached, and the cache has none"
    if found.report is not None:
        parts["report"] = found.report.markdown()
    parts |= {"schema": _json(schema), "config": _json(written)}
    return "\n\n".join(f"== {name}\n{_shown(text)}" for name, text in parts.items())


def _json(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False)


def _shown(text: str) -> str:
    """Lines that a terminal can show, not more than a person reads."""
    from mvcore.text import capped, clean

    return "\n".join(capped([clean(line, 500) for line in text.splitlines()], _LINES))


def _escaped(text: str) -> str:
    """JSON without control characters, which stand in it escaped."""
    return json.dumps(json.loads(text), indent=1)
