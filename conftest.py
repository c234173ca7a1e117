"""What the tests of the core and of the plugins in this repository share: its pages as tests, and a real data set."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def run_examples() -> Callable[[Path], dict[str, Any]]:
    """Runs the Python blocks of a Markdown file, one after the other, in one namespace, and returns that."""

    def run(document: Path) -> dict[str, Any]:
        blocks = re.findall(r"^```python\n(.*?)^```", document.read_text(), flags=re.DOTALL | re.MULTILINE)
        assert blocks, f"{document} has no Python block"
        namespace: dict[str, Any] = {"__name__": "__main__"}
        for block in blocks:
            exec(compile(block, str(document), "exec"), namespace)
        return namespace

    return run


@pytest.fixture
def check_mfeat() -> Callable[..., dict[str, float]]:
    """Trains 30 epochs on ``mfeat`` with 30 % of the modalities missing and holds the model to what it must reach.

    A linear probe on complete test rows reaches .95, and every view, hidden in turn, is predicted better than by its
    mean. It takes a function that builds the model for the training data, and arguments of ``mvcore.fit``.
    """
    import torch

    import mvcore

    def check(create: Callable[[mvcore.MultimodalDataset], mvcore.Model], **training: Any) -> dict[str, float]:
        train, test = mvcore.dataset("mfeat").split(0.8, seed=0)
        train = mvcore.mcar(train, 0.3, seed=1)
        torch.manual_seed(0)
        model = mvcore.fit(create(train), train, epochs=30, progress=False, **training).model
        metrics = [{"use": "imputation", "baselines": False, "K": 64}, {"use": "linear_probe", "sizes": [6]}]
        values = mvcore.evaluate(model, test, train=train, metrics=metrics).values
        scores = {m: values[f"imputation/{m}"] for m in test.schema.names} | {"probe": values["linear_probe/6_inputs"]}
        assert scores["probe"] >= 0.95, f"the linear probe reaches {scores['probe']:.3f}, expected .95: {scores}"
        worse = [m for m in test.schema.names if not scores[m] > 0]
        assert not worse, f"{worse} are predicted no better than by their mean: {scores}"
        return scores

    return check
