"""Clusters of ``mfeat``'s digits: ``python plugins/mvcore-cmvae/benchmarks/clusters.py``.

Ten clusters of 1,600 rows, 30 % of the views hidden, trained without labels. Accuracy under the best match of clusters
and classes, and normalised mutual information, on 400 complete rows and on the same with 30 % of the views hidden.
Beside CMVAE's own clusters, k-means with ten centres on the embeddings of CMVAE and of ``multimodal``, fitted on the
training rows. ``--seeds`` repeats all with other splits.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score

import mvcore
from mvcore.metrics import matched_accuracy
from mvcore.models import Model
from mvcore_cmvae.clustering import clusters
from mvcore_cmvae.pruning import prune

Scores = dict[str, tuple[float, float]]


def scored(labels: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    return matched_accuracy(labels, found), float(normalized_mutual_info_score(labels, found))


def k_means(model: Model, train: mvcore.MultimodalDataset, test: mvcore.MultimodalDataset, seed: int) -> np.ndarray:
    """Centres of the training rows' embeddings, and the nearest of each test row."""
    embedded = [np.asarray(mvcore.embed(model, data), dtype=np.float64) for data in (train, test)]
    return KMeans(10, n_init=10, random_state=seed).fit(embedded[0]).predict(embedded[1])


def parts_of(data: mvcore.MultimodalDataset) -> dict[str, object]:
    """The networks of ``multimodal``, so that the models differ in their objective alone."""
    config = mvcore.create("multimodal", data).config
    assert config is not None
    return {"modalities": config.modalities}


def fitted(model: Model, train: mvcore.MultimodalDataset, seed: int, **training: Any) -> Model:
    return mvcore.fit(model, train, progress=False, hooks=False, seed=seed, **training).model


def models(train: mvcore.MultimodalDataset, seed: int, args: argparse.Namespace) -> Iterator[tuple[str, Model]]:
    """The models with clusters of their own, trained."""
    fields = {"latent_dim": args.latent_dim, "private_dim": args.private_dim, "loss.beta": args.beta, **parts_of(train)}
    trained = {}
    for C in (10, 40):
        torch.manual_seed(seed)
        model = mvcore.create("cmvae", train, **{"prior.clusters": C, **fields})
        trained[C] = fitted(model, train, seed, epochs=args.epochs, lr=args.lr)
    yield "10 clusters", trained[10]
    fewer = prune(trained[40], train).model
    yield f"40 clusters, pruned to {len(fewer.latent_prior.loc)} by entropy", fewer
    ten = prune(trained[40], train, clusters=10).model
    yield "40 clusters, pruned to 10", ten
    yield "40 clusters, pruned to 10, trained on", fitted(ten, train, seed, epochs=args.epochs // 2, lr=args.lr)


def run(seed: int, args: argparse.Namespace) -> Scores:
    whole, test = mvcore.dataset("mfeat").split(0.8, seed=seed)
    train, partial = mvcore.mcar(whole, 0.3, seed=seed + 1), mvcore.mcar(test, 0.3, seed=seed + 2)
    labels, out = np.asarray(test.labels), {}
    rows = {"complete": test, "30 % missing": partial}
    for name, model in models(train, seed, args):
        for where, data in rows.items():
            out[f"`cmvae`, {name} | {where}"] = scored(labels, clusters(model, data).numpy())
            if name == "10 clusters":
                out[f"k-means, embeddings of `cmvae` | {where}"] = scored(labels, k_means(model, train, data, seed))
    torch.manual_seed(seed)
    model = fitted(mvcore.create("multimodal", train), train, seed, epochs=args.epochs)
    for where, data in rows.items():
        out[f"k-means, embeddings of `multimodal` | {where}"] = scored(labels, k_means(model, train, data, seed))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--beta", type=float, default=1.0)
    parser.add_argument("--latent-dim", type=int, default=32)
    parser.add_argument("--private-dim", type=int, default=8)
    args = parser.parse_args()
    runs = [run(seed, args) for seed in range(args.seeds)]
    print("| clusters | test rows | accuracy | NMI |\n|---|---|--:|--:|")
    for scores in runs:
        for key, (accuracy, nmi) in scores.items():
            print(f"| {key} | {accuracy:.3f} | {nmi:.3f} |")


if __name__ == "__main__":
    main()
