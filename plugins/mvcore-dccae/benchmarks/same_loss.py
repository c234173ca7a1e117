"""The correlation of DCCAE beside multi-view-AE's, on the same codes: ``python same_loss.py`` prints both.

It needs multi-view-AE (``pip install multiviewae``), whose value is −Σ ρ_d = −(D + (M − 1) · ours).
"""

from __future__ import annotations

from types import SimpleNamespace

import torch
from multiviewae.models.dccae import DCCAE

from mvcore.data import Batch
from mvcore.losses import multiset_correlation


def main() -> None:
    torch.manual_seed(0)
    worst = 0.0
    for M in (2, 3, 5):
        for D in (2, 5, 20):
            shared = torch.randn(200, D, dtype=torch.float64)
            codes = {f"m{i}": shared @ torch.randn(D, D).double() + torch.randn(200, D) for i in range(M)}
            ours = float(multiset_correlation(codes, Batch.from_dense(codes), ridge=1e-8))
            theirs = -float(DCCAE.cca(SimpleNamespace(z_dim=D), list(codes.values())))
            worst = max(worst, abs((theirs - D) / (M - 1) - ours))
            print(f"M = {M}, D = {D}: ours {ours:.6f}, theirs as ours {(theirs - D) / (M - 1):.6f}")
    print(f"largest difference {worst:.1g}")


if __name__ == "__main__":
    main()
