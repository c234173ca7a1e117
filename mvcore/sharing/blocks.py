"""The text of a card in blocks: those that mvcore writes are written anew, everything between them is its owner's."""

from __future__ import annotations

import re
from collections.abc import Mapping

_NOTE = "written by mvcore at each push; your own text belongs outside"
_BLOCK = re.compile(r"<!-- mvcore:(\w+):[^\n]*-->\n(.*?)<!-- /mvcore:\1 -->(?:\n{1,2}|\Z)", re.DOTALL)
_HEADING = re.compile(r"#{1,2} ")


def joined(before: str, blocks: Mapping[str, str]) -> str:
    """The text of a card, each block in its old place or, if it is new, behind the block before it.

    Args:
        before: The text so far; empty if there is none. What stands in none of mvcore's blocks stays, character by
            character; so does a section with a heading of its own that was put inside one.
        blocks: The new blocks by their names, in their order. An old one that is not among them goes.
    """
    parts = _parts(before)
    have = [name for name, _ in parts if name]
    for position, name in enumerate(blocks):
        if name not in have:
            parts.insert(_place(parts, list(blocks)[:position]), (name, ""))
    text = "".join(_written(name, old, blocks) for name, old in parts)
    return text if text.endswith("\n") else text + "\n"


def _parts(text: str) -> list[tuple[str, str]]:
    """The text in pieces, in order: a block's name with what is in it, or no name with what is the owner's."""
    parts, end = [], 0
    for found in _BLOCK.finditer(text):
        parts += [("", text[end : found.start()]), (found[1], found[2])]
        end = found.end()
    return [*parts, ("", text[end:])]


def _place(parts: list[tuple[str, str]], before: list[str]) -> int:
    """Where a new block belongs: behind the last of those that come before it, else in front."""
    return max((i + 1 for i, (name, _) in enumerate(parts) if name in before), default=0)


def _written(name: str, old: str, blocks: Mapping[str, str]) -> str:
    if not name:
        return old
    above, below = _owners(old)
    text = blocks.get(name, "").strip().replace("<!--", "&lt;!--")  # so that nothing in it ends it
    new = f"<!-- mvcore:{name}: {_NOTE} -->\n{text}\n<!-- /mvcore:{name} -->\n\n" if name in blocks else ""
    return above + new + below


def _owners(content: str) -> tuple[str, str]:
    """What the owner put into a block: text above its heading, and from the next heading on."""
    lines, fenced, headings = content.splitlines(keepends=True), False, []
    for i, line in enumerate(lines):
        fenced ^= line.lstrip().startswith("```")
        if not fenced and _HEADING.match(line):
            headings.append(i)
    first, second = [*headings, len(lines), len(lines)][:2]
    above = "".join(lines[:first]) if headings else ""
    return (above if above.strip() else ""), "".join(lines[second:])
