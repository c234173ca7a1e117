"""Every installed model on ``mfeat`` with 30 % of the modalities missing: the numbers of ``docs/models.md``.

Run ``python -m benchmarks.models`` from the root of the repository. Each model is trained twice: as its paper's
defaults and ``mvcore.fit`` have it, and with the networks, likelihoods, latent dimensions and recipe of
``mvcore:multimodal``, so that only posterior and objective differ.
"""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from time import perf_counter
from typing import Any

import numpy as np
import torch

import mvcore
from mvcore.evaluation import Evaluation
from mvcore.metrics import Imputation, LinearProbe, LogLikelihood
from mvcore.models import MultimodalVAEConfig
from mvcore.plugins import Registry

#: Where a paper's default, or ours, takes hours on six views: draws of the bound, steps of Hamiltonian Monte Carlo.
CHEAPER: dict[str, dict[str, Any]] = {
    "mmvae": {"loss.samples": 5},
    "jnf": {"hmc.steps": 20, "hmc.adapt": 15, "hmc.chains": 2, "hmc.thin": 1, "point_draws": 8},
}
EPOCHS = 100

Scores = dict[str, float]


def measure(name: str, same: bool, seed: int) -> Scores:
    """Imputation, probes, likelihood of complete test rows, and the seconds of the training."""
    torch.set_num_threads(1)
    train, test = mvcore.dataset("mfeat").split(0.8, seed=0)
    train = mvcore.mcar(train, 0.3, seed=1 + seed)
    fields, options = dict(CHEAPER.get(name, {})), {}
    if same:
        reference = MultimodalVAEConfig()
        fields |= {
            "modalities": mvcore.create("multimodal", train).config.modalities,
            "latent_dim": reference.latent_dim,
        }
        options = {"lr": reference.recipe().lr, "schedule": reference.recipe().schedule}
    torch.manual_seed(seed)
    model = mvcore.create(name, train, **fields)
    start = perf_counter()
    mvcore.fit(model, train, epochs=EPOCHS, seed=seed, progress=False, **options)
    scores = {"seconds": perf_counter() - start}
    e = Evaluation(model, test, train, K=32)
    views = [f"imputation/{m}" for m in train.schema.names]
    imputed = Imputation(baselines=False)(e)
    scores |= {"imputation": float(np.mean([imputed[v] for v in views])), "worst": min(imputed[v] for v in views)}
    probes = LinearProbe(sizes=(1, 6))(e)
    scores |= {"probe": probes["linear_probe/6_inputs"], "probe of one": probes["linear_probe/1_inputs"]}
    scores |= {"log p": _log_likelihood(e)}
    print(name, "same" if same else "paper", seed, scores, file=sys.stderr, flush=True)
    return scores


def _log_likelihood(e: Evaluation) -> float:
    """NaN for a model without a density."""
    try:
        return LogLikelihood(K=200)(e)["log_likelihood"]
    except mvcore.NotApplicableError:
        return float("nan")


def main() -> None:
    """Trains and prints Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--models", nargs="*", default=[entry.name for entry in Registry.installed().entries("model")])
    arguments = parser.parse_args()
    with ProcessPoolExecutor(arguments.workers, get_context("spawn")) as pool:
        jobs = {
            (name, same): [pool.submit(measure, name, same, seed) for seed in range(arguments.seeds)]
            for same in (False, True)
            for name in arguments.models
        }
        for same in (False, True):
            print("\nThe networks and the recipe of multimodal:" if same else "The papers' defaults:", end="\n\n")
            head = ["model", "imputation R²", "worst view", "probe, six views", "probe, one view", "log p (nats)", "s"]
            print(f"| {' | '.join(head)} |\n|---|{'--:|' * (len(head) - 1)}")
            for name in arguments.models:
                found = [job.result() for job in jobs[name, same]]
                mean = {n: float(np.mean([scores[n] for scores in found])) for n in found[0]}
                numbers = [f"{mean[n]:.3f}" for n in ("imputation", "worst", "probe", "probe of one")]
                print(f"| {name} | {' | '.join(numbers)} | {mean['log p']:.0f} | {mean['seconds']:.0f} |", flush=True)


if __name__ == "__main__":
    main()
