"""Interleaved timings, their medians and ratios, and the table that shows them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median, quantiles
from time import perf_counter

Case = Callable[[], None]


def interleaved(cases: Mapping[str, Case], repeats: int, warmup: int = 3) -> dict[str, list[float]]:
    """Times the cases in turn (A, B, A, B, …), so that a slow spell of the machine meets all of them.

    Each timed call follows an untimed one of the same case, as a step follows a step in a loop: the first call after
    another case pays for the caches and the memory that the other has taken.

    Args:
        cases: What to time, by name.
        repeats: Timed calls of each case.
        warmup: Calls of each case that are not timed.

    Returns:
        The seconds of each call, by name, in the order of the calls.
    """
    for _ in range(warmup):
        for case in cases.values():
            case()
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(repeats):
        for name, case in cases.items():
            case()
            start = perf_counter()
            case()
            seconds[name].append(perf_counter() - start)
    return seconds


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The first quartile, the median and the third quartile."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    first, middle, third = quantiles(values, n=4, method="inclusive")
    return first, middle, third


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> float:
    """The ratio of the medians."""
    return median(numerator) / median(denominator)


@dataclass(frozen=True, kw_only=True)
class Result:
    """One line of the table: two medians, their ratio and its bound, and the quartiles of the ratios of pairs."""

    name: str
    ours_ms: float
    theirs_ms: float
    ratio: float
    ratio_quartiles: tuple[float, float, float]
    bound: float | None
    repeats: int

    @property
    def ok(self) -> bool:
        """Whether the ratio of the medians keeps the bound."""
        return self.bound is None or self.ratio <= self.bound


def compare(name: str, ours: Case, theirs: Case, *, bound: float | None, repeats: int, warmup: int = 3) -> Result:
    """Times two cases against each other; see :func:`interleaved`."""
    seconds = interleaved({"ours": ours, "theirs": theirs}, repeats, warmup)
    return result(name, seconds["ours"], seconds["theirs"], bound=bound)


def result(name: str, ours: Sequence[float], theirs: Sequence[float], *, bound: float | None) -> Result:
    """The line of two lists of seconds from one :func:`interleaved` run."""
    return Result(
        name=name,
        ours_ms=1e3 * median(ours),
        theirs_ms=1e3 * median(theirs),
        ratio=ratio(ours, theirs),
        ratio_quartiles=quartiles([a / b for a, b in zip(ours, theirs, strict=True)]),
        bound=bound,
        repeats=len(ours),
    )


def load() -> str:
    """The number of cores and the load of the last minute: another busy process spoils timings with two threads."""
    return f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}"


def to_markdown(results: Sequence[Result]) -> str:
    """A Markdown table of the results."""
    lines = ["| case | ours ms | theirs ms | ratio | quartiles | bound | ok |", "|---|--:|--:|--:|---|--:|---|"]
    return "\n".join([*lines, *map(_row, results)])


def to_json(results: Sequence[Result]) -> str:
    """The results as a JSON list."""
    return json.dumps([asdict(r) | {"ok": r.ok} for r in results], indent=2)


def _row(r: Result) -> str:
    low, _, high = r.ratio_quartiles
    bound = "–" if r.bound is None else f"{r.bound:g}"
    verdict = "–" if r.bound is None else "yes" if r.ok else "**no**"
    cells = r.name, f"{r.ours_ms:.2f}", f"{r.theirs_ms:.2f}", f"{r.ratio:.3f}", f"{low:.3f}–{high:.3f}", bound, verdict
    return f"| {' | '.join(cells)} |"
