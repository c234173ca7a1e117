"""What a path of the space may be: a choice, a range, a plugin with fields of its own, or a value for all.

Each is read from plain values, where a marker is a table: ``{choice = […]}``, ``{int = [8, 128], log = true}``,
``{float = [1e-4, 1e-2]}``, ``{plugin = {mopoe = {…}, …}}``. Anything else is a value, a bare list too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, final

from attrs import frozen

from mvcore.config.converter import unknown_key
from mvcore.errors import nearest

MARKERS = ("choice", "int", "float", "plugin")


@final
@frozen
class Choice:
    """One of some values, each such as JSON has them."""

    values: tuple[Any, ...]

    def holds(self, value: Any) -> bool:
        """Whether a value is one of them."""
        return any(_same(value, own) for own in self.values)


@final
@frozen
class Number:
    """A number from ``low`` to ``high``, both included; uniform, or uniform in the logarithm."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def holds(self, value: Any) -> bool:
        """Whether a value is of this kind, and in the range."""
        kinds = (int,) if self.whole else (int, float)
        return type(value) in kinds and self.low <= value <= self.high


@final
@frozen
class Fixed:
    """A value for all trials that come by."""

    value: Any


@final
@frozen
class Plugin:
    """A component by name, each with the paths of its own, which start at the component."""

    branches: Mapping[str, Mapping[str, Node]]

    @property
    def names(self) -> Choice:
        """The choice among the components."""
        return Choice(tuple(self.branches))


Domain = Choice | Number  #: What an asker is asked for a value of.
Node = Choice | Number | Plugin | Fixed


def parse(value: Any, name: str, faults: list[str]) -> Node:
    """The node that a plain value stands for; what is wrong is appended to the faults.

    Args:
        value: A marker or a value.
        name: What the faults call it.
        faults: Grows.
    """
    if not isinstance(value, Mapping) or "use" in value:
        return Fixed(value)
    found = [marker for marker in MARKERS if marker in value]
    if len(found) != 1:
        faults.append(f"{name}: {_no_marker(value, found)}")
        return Fixed(None)
    options = {key: part for key, part in value.items() if key != found[0]}
    known = ("log",) if found[0] in ("int", "float") else ()
    faults.extend(f"{name}: {key}: {unknown_key(key, known)}" for key in options if key not in known)
    if found[0] == "plugin":
        return _plugin(value["plugin"], name, faults)
    if found[0] == "choice":
        return _choice(value["choice"], name, faults)
    return _number(value, found[0] == "int", name, faults)


def _no_marker(value: Mapping[str, Any], found: list[str]) -> str:
    if found:
        return f"has two markers, {' and '.join(found)}; give one"
    near = next((hint for key in value if (hint := nearest(str(key), MARKERS))), None)
    hint = f", did you mean {near!r}?" if near else '; a path in [space] is one key in quotes, "model.loss.beta"'
    return f"expected a table with one of {', '.join(MARKERS)}, got {sorted(map(str, value))}{hint}"


def _choice(values: Any, name: str, faults: list[str]) -> Node:
    if not isinstance(values, (list, tuple)) or not values:
        faults.append(f"{name}: choice takes a list of one value or more, got {values!r}")
        return Fixed(None)
    if len({_text(value) for value in values}) < len(values):
        faults.append(f"{name}: choice has a value twice, {values!r}")
    return Choice(tuple(values))


def _number(table: Mapping[str, Any], whole: bool, name: str, faults: list[str]) -> Node:
    kind, bounds, log = "int" if whole else "float", table["int" if whole else "float"], table.get("log", False)
    types = (int,) if whole else (int, float)
    pair = isinstance(bounds, (list, tuple)) and len(bounds) == 2
    if not pair or not all(type(bound) in types and math.isfinite(bound) for bound in bounds):
        faults.append(f"{name}: {kind} takes the least and the greatest value, two {kind}s, got {bounds!r}")
        return Fixed(None)
    low, high = bounds
    if not isinstance(log, bool):
        faults.append(f"{name}: log: expected true or false, got {log!r}")
    if low > high:
        faults.append(f"{name}: the range is swapped: write [{high!r}, {low!r}], got [{low!r}, {high!r}]")
    if low == high:
        faults.append(f"{name}: the range has one value; write {low!r} alone")
    if log is True and low <= 0:
        faults.append(f"{name}: a range with log = true must be above 0, got [{low!r}, {high!r}]")
    return Number(low, high, log is True, whole)


def _plugin(branches: Any, name: str, faults: list[str]) -> Node:
    if not isinstance(branches, Mapping) or not branches:
        faults.append(f"{name}: plugin takes a table with a table for each component, got {branches!r}")
        return Fixed(None)
    nodes: dict[str, dict[str, Node]] = {}
    for branch, fields in branches.items():
        where = f"{name}[{branch}]"
        if not isinstance(fields, Mapping):
            faults.append(f"{where}: expected a table of its paths, {{}} for none, got {fields!r}")
            continue
        nodes[branch] = {path: parse(part, f"{where}.{path}", faults) for path, part in fields.items()}
    return Plugin(nodes)


def nodes_of(nodes: Mapping[str, Node], name: str = "") -> Iterator[tuple[str, Node]]:
    """Each node of a tree with its name, those of a plugin's branches after it."""
    for path, node in nodes.items():
        own = f"{name}{path}"
        yield own, node
        if isinstance(node, Plugin):
            for branch, inner in node.branches.items():
                yield from nodes_of(inner, f"{own}[{branch}].")


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=repr)


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and _text(one) == _text(other)
