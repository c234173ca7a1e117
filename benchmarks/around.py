"""What stands around a training step: data read and held, transforms, imputation, evaluation, many subsets, two ranks.

Each case is a process of its own, which prints JSON: ``python -m benchmarks.around CASE``. ``growth.py`` runs them all.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

import mvcore

Figures = dict[str, float]
GENERATOR = torch.Generator().manual_seed(0)
RNG = np.random.default_rng(0)


def measured(work: Callable[[], Any]) -> tuple[Any, Figures]:
    """What a piece of work gives, its seconds, and the resident memory in MiB: at its peak, and what is left held."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew; Linux alone
    before, begun = _resident("VmRSS"), perf_counter()
    result = work()
    seconds = perf_counter() - begun
    return result, {"s": seconds, "peak": _resident("VmHWM") - before, "held": _resident("VmRSS") - before}


def batch(rows: str) -> Figures:
    """A batch of 128 rows of three tables, two of which some rows lack."""
    n = int(rows)
    masks = {m: torch.rand(n, generator=GENERATOR) < 0.6 for m in "bc"}
    data = mvcore.MultimodalDataset({m: torch.randn(n, 10, generator=GENERATOR) for m in "abc"}, masks)
    order = torch.randperm(n, generator=GENERATOR)[:9600].split(128)
    return {"ms": 1e3 * median(_seconds(lambda rows=rows: data.batch(rows)) for rows in order)}  # type: ignore[misc]


def transforms() -> Figures:
    """``fit_transforms`` of 100,000 × 500 with unknown cells."""
    cells = RNG.random((100_000, 500), dtype=np.float32) < 0.9
    x = torch.randn(100_000, 500, generator=GENERATOR)
    model, data = _small(mvcore.MultimodalDataset({"a": x}, cells={"a": cells}))
    return measured(lambda: model.fit_transforms(data))[1]


def frames(gaps: str) -> Figures:
    """``from_frames`` of 100,000 × 500 in float64, 381 MiB, beside pandas' own conversion of it to float32."""
    values = RNG.normal(size=(100_000, 500))
    values[RNG.random(values.shape) < float(gaps)] = np.nan
    frame = pd.DataFrame(values, columns=[f"c{i}" for i in range(500)])
    mvcore.from_frames({"a": frame.head()})
    plain = _seconds(lambda: (frame.to_numpy(np.float32), frame.notna().to_numpy()))
    return measured(lambda: mvcore.from_frames({"a": frame}))[1] | {"pandas s": plain}


def sparse() -> Figures:
    """``from_anndata`` of 2,000 × 20,000 with 5 % of the values, 153 MiB dense in float32."""
    counts = anndata.AnnData(sp.random(2000, 20_000, 0.05, format="csr", dtype=np.float32, random_state=0))
    mvcore.from_anndata({"rna": counts[:5, :9].copy()})
    return measured(lambda: mvcore.from_anndata({"rna": counts}))[1]


def pixels() -> Figures:
    """A data set of 45 MiB of bytes; the peak is that of fitting transforms too."""
    images = RNG.integers(0, 256, (20_000, 3, 28, 28), dtype=np.uint8)
    mvcore.MultimodalDataset({"a": images[:9]}, likelihoods={"a": "normal"})
    data, made = measured(lambda: mvcore.MultimodalDataset({"a": images}, likelihoods={"a": "normal"}))
    model, _ = _small(data, use="mlp")
    _, fitted = measured(lambda: (model.check(data), model.fit_transforms(data)))
    return {
        "s": made["s"] + fitted["s"],
        "peak": max(made["peak"], made["held"] + fitted["peak"]),
        "held": made["held"],
    }


def impute(rows: str, width: str) -> Figures:
    """``impute`` with intervals of two tables of 10 columns; the output is 240 bytes a row."""
    n = int(rows)
    masks = {"b": torch.rand(n, generator=GENERATOR) < 0.6}
    model, data = _small(
        mvcore.MultimodalDataset({m: torch.randn(n, 10, generator=GENERATOR) for m in "ab"}, masks), hidden=int(width)
    )
    model.fit_transforms(data)
    mvcore.impute(model, data.select(range(20)), interval=0.9)
    return measured(lambda: mvcore.impute(model, data, interval=0.9))[1] | {"output": n * 240 / 2**20}


def like() -> Figures:
    """One patient of 20,000 columns, in another order, against the first ones; and read without them."""
    names = [f"g{i}" for i in range(20_000)]
    frame = pd.DataFrame(RNG.normal(size=(20, 20_000)), columns=names)
    data, one = mvcore.from_frames({"rna": frame}), frame.iloc[:1, RNG.permutation(20_000)]
    return {
        "s": median(_seconds(lambda: data.like({"rna": one})) for _ in range(3)),
        "read s": median(_seconds(lambda: mvcore.from_frames({"rna": one})) for _ in range(3)),
    }


def evaluate() -> Figures:
    """``mvcore.evaluate`` on test rows of mfeat: what conditional likelihoods take beside the likelihood."""
    train, test = mvcore.dataset("mfeat").split(0.8, seed=0)
    model = mvcore.create("multimodal", train)
    model.fit_transforms(train)
    model.eval()
    decoded: list[int] = []
    for decoder in model.decoders.values():
        decoder.register_forward_hook(lambda _, inputs, __: decoded.append(inputs[0].shape[:2].numel()))
    first = _seconds(lambda: mvcore.evaluate(model, test, metrics=["log_likelihood"]))
    before = sum(decoded)
    both = ["log_likelihood", "conditional_log_likelihood"]
    second = _seconds(lambda: mvcore.evaluate(model, test, metrics=both))
    return {"s": second - first, "draws decoded": sum(decoded) - 2 * before}


def subsets(count: str, missing: str) -> Figures:
    """A training step of MoPoE with all subsets, 128 rows, 20 dimensions."""
    names, lacking = [f"m{i}" for i in range(int(count))], float(missing)
    arrays = {m: torch.randn(128, 8, generator=GENERATOR) for m in names}
    masks = {m: torch.rand(128, generator=GENERATOR) >= lacking for m in names[1:]}
    model, data = _small(mvcore.MultimodalDataset(arrays, masks), model="mopoe", latent_dim=20)
    model.fit_transforms(data)
    rows = data.batch()

    def step() -> None:
        model.zero_grad()
        model(rows).loss.backward()

    _, figures = measured(step)
    return {"ms": 1e3 * min(_seconds(step) for _ in range(3)), "peak": figures["peak"]}


def ranks() -> Figures:
    """Seconds an epoch of 4,096 rows of four tables of 64 columns, batches of 512; under torchrun or alone."""
    z = torch.randn(4096, 8, generator=GENERATOR)
    tables = {f"m{i}": z @ torch.randn(8, 64, generator=GENERATOR) for i in range(4)}
    masks = {f"m{i}": torch.rand(4096, generator=GENERATOR) < 0.7 for i in range(1, 4)}
    data = mvcore.MultimodalDataset(tables, masks)
    model = mvcore.create("multimodal", data, latent_dim=16)
    mvcore.fit(model, data, epochs=1, batch_size=512, progress=False)
    seconds = _seconds(lambda: mvcore.fit(model, data, epochs=10, batch_size=512, progress=False)) / 10
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
    return {"s": seconds}


CASES: Mapping[str, Callable[..., Figures]] = {
    f.__name__: f for f in (batch, transforms, frames, sparse, pixels, impute, like, evaluate, subsets, ranks)
}


def _small(
    data: mvcore.MultimodalDataset, *, model: str = "multimodal", hidden: int = 16, latent_dim: int = 2, **parts: Any
) -> tuple[Any, mvcore.MultimodalDataset]:
    """A model with small networks, and its data."""
    networks = {part: {"hidden": [hidden], **parts} for part in ("encoder", "decoder")}
    modalities = {m: networks for m in data.schema.names}
    return mvcore.create(model, data, latent_dim=latent_dim, modalities=modalities), data


def _resident(kind: str) -> float:
    found = re.search(rf"{kind}:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def _seconds(work: Callable[[], object]) -> float:
    begun = perf_counter()
    work()
    return perf_counter() - begun


def main(arguments: Sequence[str]) -> None:
    """Prints the figures of one case."""
    torch.set_num_threads(1)
    figures = CASES[arguments[0]](*arguments[1:])
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1:])
