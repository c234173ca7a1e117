"""What each default of ``mvcore:multimodal`` gains: the table of ``docs/defaults.md``.

Run ``python -m benchmarks.defaults`` from the root of the repository; it takes all cores, one training on each. Every
number is the mean over seeds of trainings from scratch. ``--final`` measures the defaults as they are on the test rows.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from time import perf_counter
from typing import Any

import numpy as np
import torch

import mvcore
from mvcore.data import MultimodalDataset
from mvcore.evaluation import Evaluation
from mvcore.metrics import Hidden, IntervalCoverage, LinearProbeConfig, cell_coverage
from mvcore.models import Model

#: What the choices are added to, one after the other: a common network, trained the common way.
PLAIN: dict[str, Any] = {
    "latent_dim": 20,
    "modality_dropout": 0.0,
    "loss.beta": 1.0,
    "encoder.activation": "relu",
    "encoder.layer_norm": False,
    "decoder.activation": "relu",
    "decoder.layer_norm": False,
    "decoder.dropout": 0.0,
    "likelihood.learn_scale": "no",
    "fit.schedule": "constant",
    "fit.lr": 1e-3,
    "fit.epochs": 100,
}
#: Each choice by what of PLAIN it takes away: the default of the config then stands.
CHOICES: dict[str, tuple[str, ...]] = {
    "150 epochs": ("fit.epochs",),
    "learning rate rising to .003 and falling (one cycle)": ("fit.schedule", "fit.lr"),
    "layer norm": ("encoder.layer_norm", "decoder.layer_norm"),
    "SiLU": ("encoder.activation", "decoder.activation"),
    "64 latent dimensions": ("latent_dim",),
    "a learned scale for each feature": ("likelihood.learn_scale",),
    "β": ("loss.beta",),
    "modality dropout": ("modality_dropout",),
    "dropout before the output": ("decoder.dropout",),
}

Scores = dict[str, float]


def rows(name: str, seed: int, *, final: bool) -> tuple[MultimodalDataset, MultimodalDataset]:
    """Training rows, and complete rows to measure on: of ``mfeat`` rows held out of the training rows, unless final."""
    data = mvcore.dataset(name)
    if name == "miniacc":
        return data.split(0.8, seed=100 + seed)
    train, held_out = data.split(0.8, seed=0)
    if not final:
        train, held_out = train.split(0.8, seed=10 + seed)
    return mvcore.mcar(train, 0.3, seed=1 + seed), held_out


def trained(train: MultimodalDataset, changes: Mapping[str, Any], seed: int) -> Model:
    """The model with its defaults, but for the changes."""
    torch.manual_seed(seed)
    fields = {k: v for k, v in changes.items() if k.partition(".")[0] in ("latent_dim", "modality_dropout", "loss")}
    for m in train.schema:
        parts = {k: v for k, v in changes.items() if k.partition(".")[0] in ("encoder", "decoder", "likelihood")}
        if m.likelihood != "normal":
            parts.pop("likelihood.learn_scale", None)
        fields |= {f"modalities.{m.name}.{k}": v for k, v in parts.items()}
    options = {k.removeprefix("fit."): v for k, v in changes.items() if k.startswith("fit.")}
    model = mvcore.create("multimodal", train, **fields)
    return mvcore.fit(model, train, seed=seed, progress=False, **options).model


def measure(name: str, changes: Mapping[str, Any], seed: int, final: bool) -> Scores:
    """R² of each hidden modality from the posterior mean of the others, their mean, the probe, and the seconds."""
    torch.set_num_threads(1)
    train, held_out = rows(name, seed, final=final)
    start = perf_counter()
    model = trained(train, changes, seed)
    seconds = perf_counter() - start
    each = {m: explained(model, Hidden(train, held_out, m)) for m in train.schema.names}
    scores = {**each, "imputation": float(np.mean(list(each.values()))), "seconds": seconds}
    if name == "mfeat":
        report = mvcore.evaluate(model, held_out, train=train, metrics=[LinearProbeConfig(sizes=(6,))])
        scores["probe"] = report.values["linear_probe/observed"]
    return scores | (coverage(model, held_out) if final else {})


def coverage(model: Model, held_out: MultimodalDataset) -> Scores:
    """The share of hidden values inside their 90 % intervals: of cells hidden one by one, of whole modalities."""
    cells = cell_coverage(model, held_out, interval=0.9, share=0.1)
    whole = IntervalCoverage(levels=(0.9,), draws=199)(Evaluation(model, held_out))
    return {"cells": float(np.mean([each.coverage for each in cells])), "hidden": float(np.mean(list(whole.values())))}


@torch.no_grad()
def explained(model: Model, task: Hidden) -> float:
    """R² over all features, each scaled by its range in training; of 0/1 values the share of the Brier score saved."""
    view = task.test.batch().without([task.name])
    latents = model.eval().posterior(model.encode_modalities(view)).point()
    predicted = task.rows_of(model.observe(latents.values, task.name, view).mean[0])
    if task.kind == "R²":
        return task.score(predicted)
    left, total = (np.square(task.truth - p)[task.known].sum() for p in (predicted, task.mean))
    return float(1 - left / total)


def ladder(*, without: bool) -> dict[str, dict[str, Any]]:
    """The plain network, each choice added to those before, and, if asked for, all choices but one."""
    changes = dict(PLAIN)
    steps = {"a plain network, 100 epochs at learning rate .001": dict(changes)}
    for name, taken in CHOICES.items():
        changes = {k: v for k, v in changes.items() if k not in taken}
        steps[f"+ {name}"] = dict(changes)
    for name, taken in CHOICES.items() if without else ():
        steps[f"all but {name}"] = {k: PLAIN[k] for k in taken}
    return steps


def mean(found: list[Scores]) -> Scores:
    """The mean of each score."""
    return {name: float(np.mean([scores[name] for scores in found])) for name in found[0]}


def main() -> None:
    """Trains and prints Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="trainings on mfeat; twice as many on miniacc")
    parser.add_argument("--without", action="store_true", help="also the defaults without each single choice")
    parser.add_argument("--final", action="store_true", help="the defaults on the test rows, and with fewer epochs")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    if arguments.final:
        steps: dict[str, dict[str, Any]] = {
            "the defaults": {},
            "40 epochs": {"fit.epochs": 40},
            "a plain network, 100 epochs at learning rate .001": PLAIN,
        }
    else:
        steps = ladder(without=arguments.without)
    with ProcessPoolExecutor(arguments.workers, get_context("spawn")) as pool:
        jobs = {
            (step, name): [pool.submit(measure, name, changes, seed, arguments.final) for seed in range(seeds)]
            for step, changes in steps.items()
            for name, seeds in (("mfeat", arguments.seeds), ("miniacc", 2 * arguments.seeds))
        }
        found = {key: mean([job.result() for job in each]) for key, each in jobs.items()}
    views = mvcore.dataset("mfeat").schema.names
    head = ["choice", "mfeat R²", *views, "probe", "seconds", "miniacc R²"]
    covered = ["cells", "hidden"] if arguments.final else []
    head += [f"{name} in 90 %, {data}" for data in ("mfeat", "miniacc") for name in covered]
    print(f"torch {torch.__version__}, one thread a training, {arguments.workers} at once\n")
    print(f"| {' | '.join(head)} |\n|---|{'--:|' * (len(head) - 1)}")
    for step in steps:
        digits, tumours = found[step, "mfeat"], found[step, "miniacc"]
        numbers = [f"{digits[n]:.3f}" for n in ("imputation", *views, "probe")]
        numbers += [f"{digits['seconds']:.0f}", f"{tumours['imputation']:.3f}"]
        numbers += [f"{scores[n]:.3f}" for scores in (digits, tumours) for n in covered]
        print(f"| {step} | {' | '.join(numbers)} |")


if __name__ == "__main__":
    main()
