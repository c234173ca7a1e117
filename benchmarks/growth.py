"""Start-up, peak memory, and how a training step grows with the modalities and shrinks with what is missing.

Run ``python -m benchmarks.growth`` from the root of the repository; see ``README.md``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import replace
from statistics import median
from time import perf_counter

import torch

from benchmarks.settings import IMAGES, TEN_MODALITIES, Setting, draw_rows
from benchmarks.timing import load

RATES = (0.0, 0.2, 0.4, 0.6, 0.8)

#: Programs whose start is timed; multivae gets its stand-in for torchvision, as everywhere here.
STARTS = {
    "python": ["-c", "pass"],
    "import mvcore": ["-c", "import mvcore"],
    "mvcore --help": ["-c", "from mvcore.cli import main; main(['--help'])"],
    "mvcore plugins": ["-c", "from mvcore.cli import main; main(['plugins'])"],
    "import mvcore, then fit": ["-c", "import mvcore; mvcore.fit"],
    "import multivae.models": ["-c", "import benchmarks.multivae_side"],
}

#: One program a line: it prints the largest resident memory that a training step took, in MiB.
MEMORY = """
import resource, sys
from benchmarks.settings import IMAGES, TEN_MODALITIES, draw_rows
setting = {{"five images": IMAGES, "ten tables": TEN_MODALITIES}}[{setting!r}]
from benchmarks import {side} as side
import torch
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
step = side.training_step(side.mopoe(setting), draw_rows(setting, missing={missing}))
for _ in range(5):
    step()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def starts(repeats: int) -> None:
    """Prints the median time of each program's start."""
    print("\n| program | ms | ms beyond the interpreter |\n|---|--:|--:|")
    seconds: dict[str, list[float]] = {name: [] for name in STARTS}
    for _ in range(repeats + 1):
        for name, arguments in STARTS.items():
            begun = perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
            seconds[name].append(perf_counter() - begun)
    base = median(seconds["python"][1:])  # the first one filled the disk's cache
    for name, values in seconds.items():
        middle = median(values[1:])
        print(f"| `{name}` | {1e3 * middle:.0f} | {1e3 * (middle - base):.0f} |")


def memory() -> None:
    """Prints the peak memory of a MoPoE step beyond what was taken before it was built."""
    print("\n| MoPoE step | mvcore MiB | multivae MiB | ratio |\n|---|--:|--:|--:|")
    for name, missing in (("five images", 0.0), ("five images", 0.5), ("ten tables", 0.0)):
        mine, other = (_peak(side, name, missing) for side in ("ours", "multivae_side"))
        print(f"| {name}, {missing:.0%} missing | {mine:.0f} | {other:.0f} | {mine / other:.3f} |")


def growth(repeats: int) -> None:
    """Prints the time of mvcore's step for two to ten modalities, and for growing shares of missing data."""
    print("\n| modalities of 32 features | subsets | ms |\n|--:|--:|--:|")
    for M in range(2, 11):
        print(f"| {M} | {2**M - 1} | {_step_ms(replace(TEN_MODALITIES, modalities=M), 0.0, repeats):.1f} |")
    print("\n| missing, five images | observed | ms | over complete |\n|--:|--:|--:|--:|")
    complete = None
    for rate in RATES:
        here = _step_ms(IMAGES, rate, repeats)
        complete = complete or here
        share = draw_rows(IMAGES, missing=rate).observed.float().mean()
        print(f"| {rate} | {share:.2f} | {here:.1f} | {here / complete:.2f} |")


def _step_ms(setting: Setting, missing: float, repeats: int) -> float:
    from benchmarks import ours

    step = ours.training_step(ours.mopoe(setting), draw_rows(setting, missing=missing))
    seconds = []
    for _ in range(repeats + 3):
        begun = perf_counter()
        step()
        seconds.append(perf_counter() - begun)
    return 1e3 * median(seconds[3:])


def _peak(side: str, setting: str, missing: float) -> float:
    program = MEMORY.format(side=side, setting=setting, missing=missing)
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    """Prints all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {load()}")
    starts(arguments.repeats)
    memory()
    growth(arguments.repeats)


if __name__ == "__main__":
    main()
