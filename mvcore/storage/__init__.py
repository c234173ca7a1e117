"""Saved models, and files that are written whole or not at all."""

from typing import TYPE_CHECKING

from mvcore.faces import face

if TYPE_CHECKING:
    from mvcore.storage.address import Origin as Origin
    from mvcore.storage.models import load as load, save as save
    from mvcore.storage.writing import (
        whole_file as whole_file,
        whole_folder as whole_folder,
        write_whole as write_whole,
    )
else:
    __all__, __getattr__, __dir__ = face(
        __name__,
        {
            "address": ("Origin",),
            "models": ("load", "save"),
            "writing": ("whole_file", "whole_folder", "write_whole"),
        },
    )
