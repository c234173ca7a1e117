"""What mAAE, mWAE and their weights reach on mfeat, 30 % of the views missing, 30 epochs.

``python weights.py`` prints, for each setting, R² of each hidden view, accuracies of a linear probe, and the squared
maximum mean discrepancy between the codes of the complete test rows and draws of the prior, mean of the views.
"""

from __future__ import annotations

import torch

import mvcore
from mvcore_maae.matching import squared_discrepancy

METRICS = [{"use": "imputation", "baselines": False, "K": 1}, {"use": "linear_probe", "sizes": [1, 6]}]


def scores(name: str, matching: float) -> dict[str, float]:
    train, test = mvcore.dataset("mfeat").split(0.8, seed=0)
    train = mvcore.mcar(train, 0.3, seed=1)
    torch.manual_seed(0)
    run = mvcore.fit(mvcore.create(name, train, latent_dim=20, matching=matching), train, epochs=30, progress=False)
    values = dict(mvcore.evaluate(run.model, test, train=train, metrics=METRICS).values)
    with torch.no_grad():
        codes = run.model.encode_modalities(test.batch()).experts.values()
        values["discrepancy"] = float(sum(squared_discrepancy(z, torch.randn_like(z)) for z in codes) / len(codes))
    return values


if __name__ == "__main__":
    for name, matching in (("mwae", 10.0), ("mwae", 100.0), ("mwae", 0.0), ("maae", 1.0), ("maae", 10.0)):
        print(name, matching, {k: round(v, 3) for k, v in scores(name, matching).items()}, flush=True)
