"""The command ``mvcore``. Each file of this folder is one subcommand, its ``command``, imported when it is used."""

from __future__ import annotations

import errno
import pkgutil
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from mvcore.cli._failures import drop_output, sentence
from mvcore.text import clean

__all__ = ["main", "table"]


class _OneFileEach(click.Group):
    """A group whose subcommands are the modules of this package, so that one more is one more file."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = import_module(f"{__name__}.{cmd_name}").command
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # The flag is the group's; in front, it may also be written after the subcommand.
        return super().parse_args(ctx, sorted(args, key=lambda arg: arg != "--traceback"))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            raise click.exceptions.Exit(130) from None
        except Exception as error:
            if ctx.params["traceback"] or getattr(error, "errno", None) == errno.EPIPE:  # click ends quietly by EPIPE
                raise
            if isinstance(error, OSError):
                drop_output()
            raise click.ClickException(sentence(error)) from error


@click.group(cls=_OneFileEach, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--traceback", is_flag=True, help="Show where an error was raised, and what led to it.")
@click.version_option(package_name="mvcore")
def main(traceback: bool) -> None:
    """Train, compare and share multimodal variational autoencoders."""


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text in aligned columns, without control characters; the first row is the heading."""
    rows = [[clean(cell) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in padded)
