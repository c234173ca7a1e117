"""Checks on real data and on documents."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mvcore.api import dataset
from mvcore.data.dataset import MultimodalDataset
from mvcore.data.missing import mcar
from mvcore.evaluation.imputation import imputation_score
from mvcore.evaluation.probe import linear_probe
from mvcore.models.base import Model
from mvcore.training.fit import fit


def check_mfeat(create: Callable[[MultimodalDataset], Model], **training: Any) -> dict[str, float]:
    """Trains 30 epochs on ``mfeat`` with 30 % of the modalities missing and holds the model to what it must reach.

    A linear probe on complete test rows reaches .95, and every view, hidden in turn, is predicted better than by its
    mean.

    Args:
        create: Builds the model for the training data, with torch's global generator seeded.
        **training: Arguments of ``mvcore.fit`` other than the data and the epochs.

    Returns:
        The scores: ``probe`` and the R² of each view.
    """
    train, test = dataset("mfeat").split(0.8, seed=0)
    train = mcar(train, 0.3, seed=1)
    torch.manual_seed(0)
    model = fit(create(train), train, epochs=30, progress=False, **training).model
    scores = {m: imputation_score(model, train, test, m) for m in test.schema.names}
    scores["probe"] = linear_probe(model, train, test)
    assert scores["probe"] >= 0.95, f"the linear probe reaches {scores['probe']:.3f}, expected .95: {scores}"
    worse = [m for m in test.schema.names if not scores[m] > 0]
    assert not worse, f"{worse} are predicted no better than by their mean: {scores}"
    return scores


def run_examples(document: Path) -> dict[str, Any]:
    """Runs the Python blocks of a Markdown file, one after the other, in one namespace, and returns that."""
    blocks = re.findall(r"^```python\n(.*?)^```", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    assert blocks, f"{document} has no Python block"
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks:
        exec(compile(block, str(document), "exec"), namespace)
    return namespace
