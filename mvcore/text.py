"""Text that may hold what strangers wrote, made fit for a terminal and for a person to read."""

from __future__ import annotations

from collections.abc import Sequence

LINE = 1_000  #: Characters of a line that are shown.
LINES = 10  #: Lines of a message that are shown.


def clean(value: object, limit: int = LINE) -> str:
    r"""One line of printable text: control characters (of terminals, of writing direction) escaped, not endless.

    What ``str.isprintable`` refuses is written as Python writes it in a string, a line break as ``\n``.

    Args:
        value: The text, or what ``str`` makes one of.
        limit: Characters from which on the middle is left out.
    """
    text = str(value)
    if len(text) > limit:
        half = limit // 2
        text = f"{text[:half]} … ({len(text):,} characters) … {text[-half:]}"
    return text if text.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in text)


def clean_lines(text: str) -> str:
    """A message of several lines, each of them cleaned, no more than ``LINES``."""
    return "\n".join(capped([clean(line) for line in text.split("\n")], LINES))


def capped(lines: Sequence[str], most: int) -> list[str]:
    """The first lines; where there are more than ``most``, the last that is shown says how many."""
    if len(lines) <= most:
        return list(lines)
    return [*lines[: most - 1], f"… and {len(lines) - most + 1:,} more"]


def _escaped(character: str) -> str:
    return ascii(character)[1:-1]
