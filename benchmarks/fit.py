"""A whole training of MoPoE on mfeat in mvcore and in multivae: time, imputation, probe.

Run ``python -m benchmarks.fit`` from the root of the repository; see ``README.md``.
"""

# mypy: disable-error-code="import-untyped, import-not-found, misc"
from __future__ import annotations

import argparse
import logging
import tempfile
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

import mvcore
from benchmarks.multivae_side import IncompleteDataset, MoPoE, MoPoEConfig, MultimodalBaseDataset, torchvision_stub
from benchmarks.timing import load
from mvcore.data import MultimodalDataset
from mvcore.models import Model

with torchvision_stub():
    from multivae.trainers import BaseTrainer, BaseTrainerConfig

logging.disable(logging.INFO)  # multivae reports every epoch

LATENT_DIM, BATCH, LEARNING_RATE, BOUND = 20, 128, 1e-3, 0.35

Scores = dict[str, float]


def data() -> tuple[MultimodalDataset, MultimodalDataset]:
    """1,600 training rows with 30 % of the modalities missing, and 400 complete test rows."""
    train, test = mvcore.dataset("mfeat").split(0.8, seed=0)
    return mvcore.mcar(train, 0.3, seed=1), test


def fit_mvcore(train: MultimodalDataset, epochs: int, seed: int) -> Model:
    """MoPoE with the paper's defaults; encoders 512, 512 and decoders 512, as are multivae's defaults."""
    torch.manual_seed(seed)
    model = mvcore.create("mopoe", train, latent_dim=LATENT_DIM, **{"posterior.prior_expert": "full"})
    run = mvcore.fit(model, train, epochs=epochs, batch_size=BATCH, lr=LEARNING_RATE, seed=seed, progress=False)
    return run.model


def fit_multivae(train: MultimodalDataset, scale: Scaling, epochs: int, seed: int) -> MoPoE:
    """MoPoE with its defaults, on min-max scaled zero-filled views, as its sigmoid decoders need."""
    torch.manual_seed(seed)
    config = MoPoEConfig(
        n_modalities=len(train.schema),
        latent_dim=LATENT_DIM,
        input_dims={m.name: m.shape for m in train.schema},
    )
    masks = {m: train.observed[:, i] for i, m in enumerate(train.schema.names)}
    rows = IncompleteDataset(data={m: scale(m, train.dense(m)[0]).nan_to_num() for m in masks}, masks=masks)
    with tempfile.TemporaryDirectory() as folder:
        training = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=epochs,
            per_device_train_batch_size=BATCH,
            learning_rate=LEARNING_RATE,
            seed=seed,
        )
        trainer = BaseTrainer(model=MoPoE(config), train_dataset=rows, training_config=training)
        trainer.train()
        return trainer._best_model


class Scaling:
    """The min-max scaling of each view, fitted on observed training rows."""

    def __init__(self, train: MultimodalDataset) -> None:
        self.low, self.range = {}, {}
        for m in train.schema.names:
            x, have = train.dense(m)
            low, high = x[have].amin(0), x[have].amax(0)
            self.low[m], self.range[m] = low, (high - low).where(high > low, 1)

    def __call__(self, name: str, x: Tensor) -> Tensor:
        """Data units to the training range of each feature."""
        return (x - self.low[name]) / self.range[name]


def score(
    train: MultimodalDataset,
    test: MultimodalDataset,
    scale: Scaling,
    predict: Callable[[str], Tensor],
    embed: Callable[[MultimodalDataset], Tensor],
) -> Scores:
    """R² of each hidden view over its min-max scaled features, their mean, and the linear probe of six views."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    scores: Scores = {}
    for m in test.schema.names:
        known, have = train.dense(m)
        truth, mean = scale(m, test.dense(m)[0]), scale(m, known[have].mean(0))
        scores[m] = float(1 - (truth - predict(m)).square().sum() / (truth - mean).square().sum())
    scores["imputation"] = float(np.mean(list(scores.values())))
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    probe.fit(embed(train).numpy(), train.labels)
    return scores | {"probe": float(probe.score(embed(test).numpy(), test.labels))}


def score_mvcore(model: Model, train: MultimodalDataset, test: MultimodalDataset, scale: Scaling) -> Scores:
    """Scores of mvcore's model."""

    def predict(m: str) -> Tensor:
        return scale(m, model.impute(test.batch().without([m]), K=64)[m])

    return score(train, test, scale, predict, lambda rows: model.embed(rows.batch()))


@torch.no_grad()
def score_multivae(model: MoPoE, train: MultimodalDataset, test: MultimodalDataset, scale: Scaling) -> Scores:
    """Scores of multivae's model; it can't embed partial rows, so its probe learns from complete training rows."""
    model.eval()
    complete, _ = mvcore.dataset("mfeat").split(0.8, seed=0)

    def rows(part: MultimodalDataset) -> MultimodalBaseDataset:
        return MultimodalBaseDataset(data={m: scale(m, part.dense(m)[0]) for m in part.schema.names})

    def predict(m: str) -> Tensor:
        given = [other for other in test.schema.names if other != m]
        mean: Tensor = model.predict(rows(test), given, m, N=64)[m].mean(0)
        return mean

    def embed(part: MultimodalDataset) -> Tensor:
        whole = complete if part is train else part
        z: Tensor = model.encode(rows(whole), "all", return_mean=True).z
        return z.reshape(len(whole), -1)

    return score(train, test, scale, predict, embed)


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """The seconds of a call, and what it returns."""
    start = perf_counter()
    value = call()
    return perf_counter() - start, value


def main() -> None:
    """Trains both in turn, and prints the medians, their ratio, and the mean scores over the seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="trainings of each side, each with a seed of its own")
    parser.add_argument("--epochs", type=int, default=30)
    arguments = parser.parse_args()
    train, test = data()
    scale = Scaling(train)
    seconds: dict[str, list[float]] = {"mvcore": [], "multivae": []}
    scores: dict[str, list[Scores]] = {"mvcore": [], "multivae": []}
    for seed in range(arguments.repeats):
        for side, fit, judge in (
            ("mvcore", lambda s: fit_mvcore(train, arguments.epochs, s), score_mvcore),
            ("multivae", lambda s: fit_multivae(train, scale, arguments.epochs, s), score_multivae),
        ):
            took, model = timed(lambda fit=fit, seed=seed: fit(seed))
            seconds[side].append(took)
            scores[side].append(judge(model, train, test, scale))
    ratio = median(seconds["mvcore"]) / median(seconds["multivae"])
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {load()}, {arguments.epochs} epochs\n")
    names = list(scores["mvcore"][0])
    print(f"| side | seconds | {' | '.join(names)} |\n|---|--:|{'--:|' * len(names)}")
    for side in seconds:
        means = [f"{np.mean([s[n] for s in scores[side]]):.3f}" for n in names]
        print(f"| {side} | {median(seconds[side]):.2f} | {' | '.join(means)} |")
    print(f"\nmvcore over multivae: {ratio:.3f} (bound {BOUND}, {'kept' if ratio <= BOUND else 'MISSED'})")


if __name__ == "__main__":
    main()
