"""Training steps on a GPU: by ``mvcore.fit``, captured and not, beside MultiVae and the hand-written step as a graph.

Run ``python -m benchmarks.gpu`` from the root of the repository. Without a CUDA device it runs at tiny sizes, which
shows that it works and nothing else. A step of mvcore is one of ``mvcore.fit``, batches from the host included, so that
what is printed is what a user gets; the other sides' batches are on the device already.
"""

from __future__ import annotations

import argparse
import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from statistics import median
from time import perf_counter
from typing import Any

import torch

import mvcore
from benchmarks import ours
from benchmarks.handwritten import HandwrittenMoPoE
from benchmarks.settings import HALF_MISSING, IMAGES, IMAGES_PRIVATE, TEN_MODALITIES, Rows, Setting, draw_rows
from mvcore.data import MultimodalDataset
from mvcore.models import Model

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
TEN = replace(TEN_MODALITIES, rows=128, latent_dim=64)
TINY: dict[str, Any] = {"shape": (3, 4, 4), "rows": 8, "encoder_hidden": (8, 8), "decoder_hidden": 8, "latent_dim": 4}

Make = Callable[[Setting], Model]
Side = Callable[[], float]


def _mmvae(setting: Setting) -> Model:
    return ours.plugin("mmvae", setting, loss={"samples": 10})


#: By name the setting, the model, the shares of missing modalities, and multivae's function.
CASES: dict[str, tuple[Setting, Make, tuple[float, ...], str]] = {
    "MoPoE": (IMAGES, ours.mopoe, (0.0, HALF_MISSING), "mopoe"),
    "MoPoE, 2,048 rows": (replace(IMAGES, rows=2048), ours.mopoe, (0.0, HALF_MISSING), "mopoe"),
    "MVTCAE": (IMAGES, lambda s: ours.plugin("mvtcae", s), (0.0, HALF_MISSING), "mvtcae"),
    "JMVAE": (IMAGES, lambda s: ours.joint("jmvae", s), (0.0, HALF_MISSING), "jmvae"),
    "MVAE": (IMAGES, lambda s: ours.plugin("mvae", s), (0.0, HALF_MISSING), "mvae_terms"),
    "MMVAE+": (IMAGES_PRIVATE, ours.mmvae_plus, (0.0, HALF_MISSING), "mmvae_plus"),
    "MMVAE, K = 10": (IMAGES, _mmvae, (0.0, HALF_MISSING), "mmvae"),
    "MoPoE, ten modalities": (TEN, ours.mopoe, (0.0,), "mopoe"),
}


class _Clock:
    """Times the steps of a training after the first ones; the device is waited for at both ends."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last, self.begun, self.ended = first, last, 0.0, 0.0

    @mvcore.hookimpl
    def mvcore_step_end(self, step: int) -> None:
        if step == self.first:
            wait()
            self.begun = perf_counter()
        elif step == self.last:
            wait()
            self.ended = perf_counter()

    @property
    def milliseconds(self) -> float:
        """Of a step."""
        return 1e3 * (self.ended - self.begun) / (self.last - self.first)


def wait() -> None:
    """Waits for the device."""
    if CUDA:
        torch.cuda.synchronize()


def fit_ms(make: Make, setting: Setting, data: MultimodalDataset, steps: int, **options: Any) -> float:
    """Milliseconds of a step of ``mvcore.fit``, on as many rows as make these steps an epoch."""
    torch.manual_seed(0)
    clock = _Clock(max(1, steps // 4), steps)
    mvcore.fit(make(setting), data, epochs=1, batch_size=setting.rows, lr=1e-4, schedule="constant", progress=False,
               callbacks=[clock], hooks=False, **options)  # fmt: skip
    return clock.milliseconds


def step_ms(step: Callable[[], None], calls: int) -> float:
    """Milliseconds of a call, the median of five rounds, the device waited for at the ends of each."""
    for _ in range(3):
        step()
    seconds = []
    for _ in range(5):
        wait()
        begun = perf_counter()
        for _ in range(max(1, calls // 5)):
            step()
        wait()
        seconds.append((perf_counter() - begun) / max(1, calls // 5))
    return 1e3 * median(seconds)


def by_hand(setting: Setting, rows: Rows, *, graph: bool) -> Callable[[], None]:
    """The hand-written MoPoE step on the device: eager as it is, or padded and captured with its optimizer."""
    rows = on_device(rows)
    hand = HandwrittenMoPoE(setting).to(DEVICE)
    if not graph:
        return hand.training_step(rows)
    hand.optimizer = torch.optim.Adam(hand.optimizer.param_groups[0]["params"], lr=1e-4, fused=True, capturable=CUDA)

    def step() -> None:
        hand.optimizer.zero_grad(set_to_none=True)
        hand.padded_loss(rows.x, rows.observed).loss.backward()
        hand.optimizer.step()

    return captured(step) if CUDA else step


def captured(step: Callable[[], None]) -> Callable[[], None]:
    """A step as one CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def multivae(name: str, setting: Setting, rows: Rows) -> Callable[[], None]:
    """A step of multivae on the device."""
    from benchmarks import multivae_side as theirs

    model = getattr(theirs, name)(setting, **({"K": 10} if name == "mmvae" else {})).to(DEVICE)
    return theirs.training_step(model, on_device(rows))


def on_device(rows: Rows) -> Rows:
    """The rows on the device."""
    return Rows({m: x.to(DEVICE) for m, x in rows.x.items()}, rows.observed.to(DEVICE))


@contextmanager
def tf32(on: bool) -> Iterator[None]:
    """Matrix products of float32 on the units for tf32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if on else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def lines(name: str, steps: int, columns: Sequence[str]) -> Iterator[str]:
    """The rows of the table of one case."""
    setting, make, rates, other = CASES[name]
    setting = setting if CUDA else replace(setting, **TINY)
    for rate in rates:
        rows = draw_rows(replace(setting, rows=steps * setting.rows), missing=rate)
        data = MultimodalDataset(rows.x, {m: rows.observed[:, i] for i, m in enumerate(rows.x)})
        few = Rows({m: x[: setting.rows] for m, x in rows.x.items()}, rows.observed[: setting.rows])
        sides = mvcore_sides(make, setting, data, steps) | other_sides(other, setting, few, steps)
        found = [f"{sides[column]():.2f}" if column in sides else "–" for column in columns]
        yield f"| {name}, {'half missing' if rate else 'complete'} | {' | '.join(found)} |"
        gc.collect()


def mvcore_sides(make: Make, setting: Setting, data: MultimodalDataset, steps: int) -> dict[str, Side]:
    """Milliseconds of a step of ``fit``, by column."""

    def there(**options: Any) -> float:
        return fit_ms(make, setting, data.to(DEVICE), steps, **options)

    def with_tf32() -> float:
        with tf32(True):
            return there()

    return {
        "eager": lambda: fit_ms(make, setting, data, max(8, steps // 3), graphs="off"),
        "captured": lambda: fit_ms(make, setting, data, steps),
        "data on the device": there,
        "tf32": with_tf32,
        "bf16": lambda: there(precision="bf16"),
    }


def other_sides(name: str, setting: Setting, rows: Rows, steps: int) -> dict[str, Side]:
    """Milliseconds of a step of the others, by column."""
    sides: dict[str, Side] = {}
    if name == "mopoe":
        sides["by hand"] = lambda: step_ms(by_hand(setting, rows, graph=False), steps)
        sides["by hand, graph"] = lambda: step_ms(by_hand(setting, rows, graph=True), steps)
    # multivae's JMVAE takes complete rows alone, and its MoPoE of ten modalities some 24 GB
    if find_spec("multivae") and setting.modalities < 10 and not (name == "jmvae" and not rows.complete):
        sides["multivae"] = lambda: step_ms(multivae(name, setting, rows), 10)
    return sides


COLUMNS = ("eager", "captured", "data on the device", "tf32", "bf16", "by hand", "by hand, graph", "multivae")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=CASES, action="append", help="all by default")
    parser.add_argument("--steps", type=int, default=64 if CUDA else 8, help="steps of a timed training")
    parser.add_argument("--column", choices=COLUMNS, action="append", help="all by default")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    where = torch.cuda.get_device_name() if CUDA else "a CPU, tiny sizes: the times mean nothing"
    print(f"torch {torch.__version__} on {where}, {torch.get_num_threads()} threads; milliseconds a step\n")
    columns = arguments.column or COLUMNS
    print(f"| step | {' | '.join(columns)} |\n|---|{'--:|' * len(columns)}", flush=True)
    for name in arguments.case or CASES:
        for line in lines(name, arguments.steps, columns):
            print(line, flush=True)


if __name__ == "__main__":
    main()
