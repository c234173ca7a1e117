"""Askers: where the value of each name of a space comes from. None of them keeps a state that a trial could miss."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

from mvcore.errors import ConfigError
from mvcore.sweeps.domains import Choice, Domain, Number
from mvcore.sweeps.space import Answers, Ask, Space, answered


def at_random(draws: random.Random) -> Ask:
    """Draws each value: choices alike, ranges uniformly, those with ``log`` uniformly in the logarithm."""

    def ask(name: str, domain: Domain) -> Any:
        return (
            domain.values[draws.randrange(len(domain.values))] if isinstance(domain, Choice) else _drawn(domain, draws)
        )

    return ask


def trial_at_random(space: Space, seed: int, number: int) -> Answers:
    """The answers of one trial of a random search, which depend on its seed and number alone."""
    return answered(space, at_random(random.Random(f"{seed}/{number}")))


def grid(space: Space) -> Iterator[Answers]:
    """Every point of a space of choices and whole numbers, branch by branch; the last name varies fastest.

    Raises:
        ConfigError: When it comes to a range of floats.
    """
    return _points(space, _all_values)


def corners(space: Space, *, choices: bool = True, high: bool = False) -> Iterator[Answers]:
    """Every combination of the space's plugins, with each choice, and the least, or greatest, value of each range.

    Args:
        space: The space.
        choices: Whether all values of choices that are no plugins are taken, or the first alone.
        high: Whether ranges are at their greatest value.
    """
    plugins = {name for name, node in space.all() if not isinstance(node, (Choice, Number))}

    def values(name: str, domain: Domain) -> tuple[Any, ...]:
        if isinstance(domain, Number):
            return (domain.high if high else domain.low,)
        return domain.values if choices or name in plugins else domain.values[:1]

    return _points(space, values)


def covering(space: Space, count: int) -> Iterator[Answers]:
    """So many points in which each value of a choice comes up about as often as its others, the same each time."""
    draws, seen = random.Random("covering"), Counter[tuple[str, int]]()

    def ask(name: str, domain: Domain) -> Any:
        if isinstance(domain, Number):
            return draws.choice([domain.low, domain.high])
        least = min(seen[name, i] for i in range(len(domain.values)))
        index = draws.choice([i for i in range(len(domain.values)) if seen[name, i] == least])
        seen[name, index] += 1
        return domain.values[index]

    for _ in range(count):
        yield answered(space, ask)


def _points(space: Space, values: Any) -> Iterator[Answers]:
    """Counts through the values of each name, whose number may depend on the names before it."""
    digits: list[int] = []
    while True:
        sizes: list[int] = []

        yield answered(space, partial(_digit, values, digits, sizes))
        digits += [0] * (len(sizes) - len(digits))
        while digits and digits[-1] == sizes[len(digits) - 1] - 1:
            digits.pop()
        if not digits:
            return
        digits[-1] += 1


def _digit(values: Any, digits: list[int], sizes: list[int], name: str, domain: Domain) -> Any:
    """The value that the digit of a name stands for; notes how many values the name has."""
    found, place = values(name, domain), len(sizes)
    sizes.append(len(found))
    return found[digits[place] if place < len(digits) else 0]


def _all_values(name: str, domain: Domain) -> Any:
    if isinstance(domain, Choice):
        return domain.values
    if not domain.whole:
        raise ConfigError([f"space.{name}: {FLOAT_IN_GRID}"], "space")
    return range(int(domain.low), int(domain.high) + 1)


FLOAT_IN_GRID = "a grid has no end over a range of floats; write {choice = […]}, or take search = 'random' or 'optuna'"


def _drawn(domain: Number, draws: random.Random) -> float:
    # a whole number stands for the half to either side of it, so that the ends are drawn as often as the others
    half = 0.5 if domain.whole else 0.0
    low, high = domain.low - half, domain.high + half
    drawn = math.exp(draws.uniform(math.log(low), math.log(high))) if domain.log else draws.uniform(low, high)
    inside = min(max(drawn, domain.low), domain.high)
    return round(inside) if domain.whole else inside
