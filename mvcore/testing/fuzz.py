"""What a fuzz test asks of every input: it is done, or refused by one error of ours that a terminal can show."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import HealthCheck, settings, strategies as st

from mvcore.errors import MvcoreError

LINES, CHARACTERS = 10, 11_000

#: How many inputs a test tries, as a share of what it asks for: all but a tenth only where there is time.
SHARE = 20.0 if os.environ.get("HYPOTHESIS_PROFILE") == "fuzz" else 1.0


def fuzzed(examples: int) -> settings:
    """The settings of a fuzz test that tries so many inputs, the same each time.

    With HYPOTHESIS_PROFILE=fuzz it tries twenty times as many, others each time.
    """
    return settings(
        max_examples=int(examples * SHARE),
        deadline=None,
        derandomize=SHARE == 1.0,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
    )


def done_or_refused(act: Callable[[], Any]) -> bool:
    """Whether an act is done; if it is not, its error must be an MvcoreError of at most ten printable lines.

    Raises:
        AssertionError: If the error's text is longer, or has control characters. Any other error passes through.
    """
    try:
        act()
    except MvcoreError as error:
        _check_text(str(error))
        return False
    return True


def _check_text(text: str) -> None:
    lines = text.split("\n")
    assert len(lines) <= LINES, f"{len(lines)} lines: {text}"
    assert len(text) <= CHARACTERS, f"{len(text)} characters"
    assert all(line.isprintable() for line in lines), f"control characters: {lines!r}"
    assert lines[0].strip(), "an error without a text"


#: Texts that break terminals, tables, paths and parsers more often than others.
nasty_texts = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["", " ", ".", "..", "/", "../x", "/etc/passwd", "a\0b", "\x1b[31m", "\u202e", "\ufeff", "a\nb", "a|b",
         "x" * 5_000, "training", "use", "revision", "__class__", "é", "\U0001f600", "nan",
         "1e999", "-0", "None", "C:\\x", "con"]
    ),
)  # fmt: skip

#: Numbers at the edges of what anything holds.
nasty_numbers = st.one_of(
    st.integers(-3, 3),
    st.integers(),
    st.floats(),
    st.sampled_from([2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**400, 1e308, 5e-324, -0.0]),
)

#: Plain values as files hold them, of any shape.
plain_values = st.recursive(
    st.one_of(st.none(), st.booleans(), nasty_numbers, nasty_texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(nasty_texts, inner, max_size=4)),
    max_leaves=8,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every part of a plain value, the whole first."""
    parts = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, part in parts for place in places(part, (*path, key)))]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy of a plain value with one part replaced."""
    if not path:
        return new
    if isinstance(value, Mapping):
        return {key: replaced(part, path[1:], new) if key == path[0] else part for key, part in value.items()}
    return [replaced(part, path[1:], new) if index == path[0] else part for index, part in enumerate(value)]


def removed(value: Any, path: tuple[Any, ...]) -> Any:
    """A copy of a plain value without one part, which is not the whole."""
    if len(path) > 1:
        inner = removed(value[path[0]], path[1:])
        return replaced(value, path[:1], inner)
    if isinstance(value, Mapping):
        return {key: part for key, part in value.items() if key != path[0]}
    return [part for index, part in enumerate(value) if index != path[0]]


def renamed(value: Any, path: tuple[Any, ...], name: str) -> Any:
    """A copy of a plain value with one key renamed; of a list, one part more."""
    if len(path) > 1:
        return replaced(value, path[:1], renamed(value[path[0]], path[1:], name))
    if isinstance(value, Mapping):
        return {name if key == path[0] else key: part for key, part in value.items()}
    return [*value, value[path[0]]]


@st.composite
def mutations(draw: st.DrawFn, value: Any, most: int = 3) -> Any:
    """A plain value with up to ``most`` parts replaced, removed, renamed or doubled."""
    for _ in range(draw(st.integers(1, most))):
        paths = [path for path in places(value) if path]
        if not paths:
            break
        path = draw(st.sampled_from(paths))
        how = draw(st.sampled_from(["replace", "remove", "rename"]))
        if how == "replace":
            value = replaced(value, path, draw(plain_values))
        else:
            value = removed(value, path) if how == "remove" else renamed(value, path, draw(nasty_texts))
    return value


@st.composite
def damages(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes with a few bits flipped, a part cut out, put in or doubled."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(changed) - 1)))
        how = draw(st.sampled_from(["flip", "cut", "end", "insert", "double"]))
        if how == "flip" and changed:
            changed[place] ^= 1 << draw(st.integers(0, 7))
        elif how == "cut":
            del changed[place : place + draw(st.integers(1, 64))]
        elif how == "end":
            del changed[place:]
        elif how == "insert":
            changed[place:place] = draw(st.binary(min_size=1, max_size=16))
        else:
            changed[place:place] = changed[place : place + 64]
    return bytes(changed)
