"""``mvcore plugins``: what is installed."""

from __future__ import annotations

import json
from typing import Any

import attrs
import click

from mvcore.cli import table
from mvcore.errors import BrokenPluginError
from mvcore.plugins.registry import Entry, Registry
from mvcore.plugins.spec import KINDS


@click.command("plugins")
@click.option("--kind", type=click.Choice(list(KINDS)), help="Only this kind of component.")
@click.option("--long", "summaries", is_flag=True, help="Also what each one says of itself; imports the plugins.")
@click.option("--check", is_flag=True, help="Import every plugin and its builders, and say which are broken.")
@click.option("--matrix", is_flag=True, help="What the models can do, as a Markdown table; imports the plugins.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def command(kind: str | None, summaries: bool, check: bool, matrix: bool, as_json: bool) -> None:
    """List the installed components.

    Reads the metadata of the installed distributions only, unless an option asks for more. With --check, the
    exit code is 1 if a plugin is broken.
    """
    registry = Registry.installed()
    if matrix:
        click.echo(_matrix(registry))
        return
    entries = registry.entries(kind)
    rows = [_row(registry, entry, summaries) for entry in entries]
    faults = [str(fault) for fault in registry.broken()] if check else []
    click.echo(_as_json(rows, faults, check) if as_json else _as_text(rows))
    if faults:
        raise click.ClickException("\n".join(faults))


def _row(registry: Registry, entry: Entry, summaries: bool) -> dict[str, str]:
    fields = attrs.asdict(entry, filter=attrs.filters.exclude("point"))
    return {**fields, "summary": _summary(registry, entry)} if summaries else fields


def _matrix(registry: Registry) -> str:
    """The support matrix, from what the specs of the models say."""
    head = ["model", "kind", "private latents", "partial rows in training", "likelihood", "any subset", "cost in M"]
    rows = [head, ["---"] * len(head)]
    for entry in registry.entries("model"):
        try:
            spec = registry.load(entry)
        except BrokenPluginError:
            continue
        name = f"[{entry.name}]({spec.paper})" if spec.paper else entry.name
        facts = ["?"] * 5 if spec.facts is None else [str(value) for value in attrs.astuple(spec.facts)]
        rows.append([name, *facts[:2], spec.partial_data or "?", *facts[2:]])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _summary(registry: Registry, entry: Entry) -> str:
    try:
        return registry.load(entry).summary
    except BrokenPluginError as error:
        return f"broken: {error.why}"


def _as_json(rows: list[dict[str, str]], faults: list[str], check: bool) -> str:
    found: dict[str, Any] = {"components": rows, **({"broken": faults} if check else {})}
    return json.dumps(found, indent=2)


def _as_text(rows: list[dict[str, str]]) -> str:
    return table([list(rows[0]), *(list(row.values()) for row in rows)]) if rows else "No component is installed."
