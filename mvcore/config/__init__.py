"""Configs as plain values and back, strictly."""

from typing import TYPE_CHECKING

from mvcore.faces import face

if TYPE_CHECKING:
    from mvcore.config.plain import (
        edit as edit,
        parse_toml as parse_toml,
        put as put,
        read_toml as read_toml,
        structure as structure,
        structure_as as structure_as,
        unstructure as unstructure,
    )
else:
    __all__, __getattr__, __dir__ = face(
        __name__,
        {
            "plain": ("edit", "parse_toml", "put", "read_toml", "structure", "structure_as", "unstructure"),
        },
    )
