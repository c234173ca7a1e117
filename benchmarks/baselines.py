"""Times the hand-written MoPoE step over multivae's, after checking that both compute the same loss.

Run ``python -m benchmarks.baselines`` from the root of the repository; see ``README.md`` in this folder.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import torch

from benchmarks.handwritten import HandwrittenMoPoE
from benchmarks.multivae_side import dataset, mopoe, training_step
from benchmarks.networks import make_networks
from benchmarks.settings import HALF_MISSING, IMAGES, TEN_MODALITIES, Setting, draw_rows
from benchmarks.timing import Result, compare, load, to_json, to_markdown


@dataclass(frozen=True)
class Baseline:
    """A MoPoE case: what a hand-written loop should reach, and how often to time it."""

    setting: Setting
    missing: float
    reached: float
    repeats: int


BASELINES = {
    "MoPoE complete": Baseline(IMAGES, 0.0, 0.5, 30),
    "MoPoE half missing": Baseline(IMAGES, HALF_MISSING, 0.4, 30),
    "MoPoE ten modalities": Baseline(TEN_MODALITIES, 0.0, 0.02, 5),
}


@torch.no_grad()
def check(case: Baseline, *, draws: int = 5) -> None:
    """Asserts that the same weights give the same KL, which has no noise, and the same mean loss to 1 %."""
    rows, networks = draw_rows(case.setting, missing=case.missing), make_networks(case.setting)
    ours, theirs = HandwrittenMoPoE(case.setting, networks=networks), mopoe(case.setting, networks=networks)
    inputs = dataset(rows)
    outputs = [theirs(inputs) for _ in range(draws)]
    values = [ours.loss(rows) for _ in range(draws)]
    torch.testing.assert_close(values[0].kl, outputs[0].metrics["joint_divergence"], rtol=1e-4, atol=1e-4)
    mean = torch.stack([v.loss for v in values]).mean()
    torch.testing.assert_close(mean, torch.stack([o.loss for o in outputs]).mean(), rtol=1e-2, atol=0.0)


def time_case(name: str, case: Baseline, repeats: int | None) -> Result:
    """Times one case; each side trains its own copy of the same networks."""
    rows = draw_rows(case.setting, missing=case.missing)
    ours, theirs = HandwrittenMoPoE(case.setting).training_step(rows), training_step(mopoe(case.setting), rows)
    repeats = repeats or case.repeats
    return compare(f"{name}, hand-written over multivae", ours, theirs, bound=case.reached, repeats=repeats, warmup=2)


def main() -> None:
    """Checks and times the cases that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=BASELINES, action="append", help="all by default")
    parser.add_argument("--repeats", type=int, help="timed calls of each side")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    before, results = load(), []
    for name in arguments.case or BASELINES:
        check(BASELINES[name])
        results.append(time_case(name, BASELINES[name], arguments.repeats))
    if arguments.json:
        print(to_json(results))
    else:
        print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; before: {before}; after: {load()}\n")
        print(to_markdown(results))


if __name__ == "__main__":
    main()
