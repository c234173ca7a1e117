"""``mvcore check``: whether a component does what its kind must."""

from __future__ import annotations

import json

import click

from mvcore.cli.describe import _called
from mvcore.plugins.registry import Registry
from mvcore.plugins.spec import KINDS
from mvcore.text import clean


@click.command("check")
@click.argument("name")
@click.option("--kind", type=click.Choice(list(KINDS)), help="Only the component of this kind.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def command(name: str, kind: str | None, as_json: bool) -> None:
    """Run the conformance checks of the components called NAME, or DIST:NAME; the exit code is 1 if one fails."""
    entries = _called(Registry.installed(), name, [kind] if kind else list(KINDS))
    from mvcore.testing.conformance import run  # imports torch

    failed, rows = 0, []
    for entry in entries:
        for check, fault in run(entry.kind, entry.id):
            failed += fault is not None
            rows.append({"kind": entry.kind, "component": entry.id, "check": check, "fault": fault})
            if not as_json:
                line = "ok" if fault is None else f"failed: {clean(' '.join(fault.split()))}"
                click.echo(f"{entry.kind} {entry.id} {check}: {line}")
    if as_json:
        click.echo(json.dumps({"checks": rows}, indent=2))
    if failed:
        raise click.exceptions.Exit(1)
