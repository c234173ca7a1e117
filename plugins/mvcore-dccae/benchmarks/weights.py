"""What the correlation and the reconstructions of DCCAE gain on mfeat, 30 % of the views missing, 30 epochs.

``python weights.py`` prints, for each setting, R² of each hidden view and the accuracies of a linear probe.
"""

from __future__ import annotations

import torch

import mvcore

METRICS = [{"use": "imputation", "baselines": False, "K": 1}, {"use": "linear_probe", "sizes": [1, 6]}]


def scores(correlation: float, reconstruct: str) -> dict[str, float]:
    train, test = mvcore.dataset("mfeat").split(0.8, seed=0)
    train = mvcore.mcar(train, 0.3, seed=1)
    torch.manual_seed(0)
    model = mvcore.create("dccae", train, latent_dim=20, correlation=correlation, reconstruct=reconstruct)
    run = mvcore.fit(model, train, epochs=30, progress=False)
    return dict(mvcore.evaluate(run.model, test, train=train, metrics=METRICS).values)


if __name__ == "__main__":
    for reconstruct, weights in {"every": (10.0, 0.0, 100.0), "own": (10.0, 100.0)}.items():
        for weight in weights:
            print(reconstruct, weight, {k: round(v, 3) for k, v in scores(weight, reconstruct).items()})
