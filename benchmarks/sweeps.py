"""The tutorial of docs/sweeps.md.

``python -m benchmarks.sweeps`` trains 24 short trials of four models on mfeat, then each model by default
for as many epochs, and measures the best of the sweep once on test rows.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import mvcore
from mvcore.config import read_toml
from mvcore.runs import run_data

FILE = Path(__file__).with_name("sweep_mfeat.toml")


def tutorial(out: Path, changes: dict[str, Any]) -> None:
    """The sweep, the defaults, and one look at the test rows."""
    tables = read_toml(FILE)
    tables["sweep"] |= changes
    began = time.perf_counter()
    found = mvcore.sweep(tables, out=out / "sweep", progress=False)
    seconds = time.perf_counter() - began
    grid = {"metric": tables["sweep"]["metric"], "search": "grid", **changes}
    models = {"model": {"plugin": {name: {} for name in tables["space"]["model"]["plugin"]}}}
    seeds = {"training.seed": {"choice": [0]}}
    defaults = mvcore.sweep(
        {**tables, "space": {**models, **seeds}, "sweep": grid}, out=out / "defaults", progress=False
    )
    print(f"{len(found.records)} trials in {seconds:.0f} s, {len(found.failures)} failed")
    goal = next(iter(tables["sweep"]["metric"]))
    for record in defaults.records:
        assert record.last is not None
        print(f"  {record.answers['model']} by default: {goal} {record.last.values[goal]:.3f} on validation rows")
    best = found.best
    assert best is not None
    assert best.last is not None
    print(f"  trial {best.number}: {goal} {best.last.values[goal]:.3f} on validation rows")
    print(f"  {json.dumps(best.answers)}")
    rows = run_data(tables["data"])
    assert rows.test is not None
    metrics = [{"use": "imputation", "baselines": False}]
    report = mvcore.evaluate(found.load(), rows.test, train=rows.train, metrics=metrics)
    own = [report.values[f"imputation/{name}"] for name in rows.test.schema.names]
    print(f"  on test rows, once: {goal} {sum(own) / len(own):.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="Where the sweeps go; by default a folder that is removed.")
    parser.add_argument("--here", action="store_true", help="Without Ray, one trial after the other.")
    options = parser.parse_args()
    changes = {"address": "here"} if options.here else {}
    if options.out is not None:
        tutorial(options.out, changes)
        return
    with tempfile.TemporaryDirectory() as folder:
        tutorial(Path(folder), changes)


if __name__ == "__main__":
    main()
