"""Start-up, peak memory, how a training step grows with the modalities, and what stands around it (``around.py``).

Run ``python -m benchmarks.growth`` from the root of the repository; see ``README.md``.
"""

from __future__ import annotations

import argparse
import json
import os
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

#: Cases of ``around.py``, each in a process of its own.
AROUND = (
    "batch 10000", "batch 1000000", "transforms", "frames 0", "frames .1", "sparse", "pixels", "impute 10000 16",
    "impute 100000 16", "impute 10000 256", "like", "evaluate", "subsets 12 0", "subsets 12 .5", "subsets 14 0",
    "subsets 14 .5", "ranks",
)  # fmt: skip
TWO = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]


def around(only: str) -> None:
    """Prints the figures of each case: seconds, and MiB beyond what was resident before."""
    print("\n| case | figures |\n|---|---|")
    for case in AROUND:
        if not case.startswith(only):
            continue
        print(f"| `{case}` | {_figures([], case)} |", flush=True)
        if case == "ranks":
            print(f"| `{case}`, two processes | {_figures(TWO, case)} |", flush=True)


def _figures(launch: list[str], case: str) -> str:
    command = [sys.executable, *launch, "-m", "benchmarks.around", *case.split()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "TQDM_DISABLE": "1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return ", ".join(f"{name} {value:,.{0 if abs(value) >= 100 else 2}f}" for name, value in figures.items())


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
    parser.add_argument("--around", metavar="CASE", help="only what stands around a step: cases that begin so, or ''")
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {load()}")
    if arguments.around is None:
        starts(arguments.repeats)
        memory()
        growth(arguments.repeats)
    around(arguments.around or "")


if __name__ == "__main__":
    main()
