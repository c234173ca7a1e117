"""Models that commands take: a folder that is there, or an address on the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mvcore.errors import HubError
from mvcore.storage.address import is_address, parse

if TYPE_CHECKING:
    from mvcore.models.base import Model

    _Type = click.ParamType[Path | str]
else:
    _Type = click.ParamType  # which takes no types in older releases

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


class _ModelPath(_Type):
    """A folder, as a path, or an address, as text."""

    name = "model"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | str:
        if not is_address(value):
            folder: Path = _FOLDER.convert(value, param, ctx)
            return folder
        try:
            parse(value)
        except HubError as error:
            self.fail(str(error), param, ctx)
        return str(value)


MODEL = _ModelPath()


def loaded(path: Path | str) -> Model:
    """The model of a folder, a run or an address; of the last its commit is said."""
    import mvcore
    from mvcore import runs

    model = mvcore.load(runs.model_folder(path))
    if model.origin is not None:
        click.echo(f"The model is {model.origin}.", err=True)
    return model
