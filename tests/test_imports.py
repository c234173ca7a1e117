"""Data flows one way: no room of the core imports, over any number of others, a room that imports it."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import mvcore

ROOT = Path(mvcore.__file__).parent


def imported(tree: ast.Module) -> Iterator[str]:
    """The modules that a file imports when it is imported itself; not for type checkers, not inside functions."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            yield from [node.module] if node.module != "mvcore" else [f"mvcore.{name.name}" for name in node.names]
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def rooms() -> dict[str, set[str]]:
    """Each folder or file directly in the core, and those that it imports."""
    found = defaultdict(set)
    for file in ROOT.rglob("*.py"):
        room = file.relative_to(ROOT).parts[0].removesuffix(".py")
        for name in imported(ast.parse(file.read_text(encoding="utf-8"))):
            package, _, rest = name.partition(".")
            if package == "mvcore" and (other := rest.partition(".")[0]) and other != room:
                found[room].add(other)
    return found


def test_no_room_imports_one_that_imports_it() -> None:
    graph = rooms()
    assert "data" in graph["models"]

    def reached(room: str) -> set[str]:
        seen: set[str] = set()
        pending = [room]
        while pending:
            for other in graph.get(pending.pop(), set()) - seen:
                seen.add(other)
                pending.append(other)
        return seen

    loops = sorted(room for room in list(graph) if room in reached(room))
    assert not loops, f"these import each other: {loops}"
