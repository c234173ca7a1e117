"""What main views and private latents of DVCCA reach on mfeat, 30 % of the views missing, 30 epochs.

``python main_views.py`` prints, for each setting, R² of each view given the others and the accuracy of a linear probe.
"""

from __future__ import annotations

import torch

import mvcore

METRICS = [{"use": "imputation", "baselines": False, "K": 16}, {"use": "linear_probe", "sizes": [6]}]


def scores(main: str, private_dim: int) -> dict[str, float]:
    train, test = mvcore.dataset("mfeat").split(0.8, seed=0)
    train = mvcore.mcar(train, 0.3, seed=1)
    torch.manual_seed(0)
    model = mvcore.create("dvcca", train, latent_dim=20, private_dim=private_dim, posterior={"main": main})
    run = mvcore.fit(model, train, epochs=30, progress=False)
    return dict(mvcore.evaluate(run.model, test, train=train, metrics=METRICS).values)


if __name__ == "__main__":
    for main in ("fac", "pix"):
        for private_dim in (0, 5):
            print(main, private_dim, {k: round(v, 3) for k, v in scores(main, private_dim).items()})
