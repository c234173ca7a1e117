"""What the command line says of an error: one paragraph, whatever was raised."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from mvcore.errors import MvcoreError
from mvcore.text import clean, clean_lines

_OUT_OF_MEMORY = ("OutOfMemoryError", "DefaultCPUAllocator", "not enough memory", "CUDA out of memory")


def sentence(error: Exception) -> str:
    """The text of an error for the terminal, without control characters."""
    if isinstance(error, MvcoreError):
        return str(error)
    if isinstance(error, OSError):
        return _of_system(error)
    if isinstance(error, MemoryError) or any(mark in f"{type(error).__name__}: {error}" for mark in _OUT_OF_MEMORY):
        return "The memory does not suffice. Take a smaller model, smaller batches or fewer draws, or a larger machine."
    if isinstance(error, ImportError):
        return f"A package that this needs cannot be imported: {clean(error)}. --traceback shows what asked for it."
    return clean_lines(
        f"{type(error).__name__}: {clean(error)}\n"
        "This is a fault of mvcore, or of a plugin, not of yours. The same command with --traceback shows where it "
        "happened; please report it with that text."
    )


def drop_output() -> None:
    """Lets what is left of the output go nowhere, so that the interpreter does not fail again when it ends."""
    with suppress(OSError, ValueError):  # an output that is no file has no number
        handle = os.open(os.devnull, os.O_WRONLY)
        os.dup2(handle, sys.stdout.fileno())


def _of_system(error: OSError) -> str:
    why = clean(error.strerror or error)
    names = [name for name in (error.filename, error.filename2) if name is not None]
    if not names:
        return f"The output, or a file, could not be read or written: {why}."
    return f"{' and '.join(repr(os.fsdecode(_text(name))) for name in names)} could not be read or written: {why}."


def _text(name: object) -> str | bytes:
    return name if isinstance(name, (str, bytes)) else str(name)
