"""Labels that some rows lack: the labelled rows are scored, and the report says how many were left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import mvcore


def labelled(n: int, seed: int, **options: Any) -> mvcore.MultimodalDataset:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, n)
    a = np.stack([labels * 4.0 - 2 + 0.1 * generator.normal(size=n), generator.normal(size=n)], 1)
    b = 0.01 * generator.normal(size=(n, 2))
    return mvcore.MultimodalDataset({"a": a, "b": b}, labels=labels, **options)


@pytest.mark.parametrize("lacking", [None, float("nan")])
@pytest.mark.parametrize("kind", [int, str, float])
def test_rows_without_a_label_are_left_out_and_counted(lacking: object, kind: type) -> None:
    """Scores of partly labelled rows are those of the labelled rows alone."""
    train, test = labelled(60, 0), labelled(40, 1)
    model = mvcore.create("multimodal", train, latent_dim=2)
    model.fit_transforms(train)
    kept = np.arange(40) % 4 != 0
    values: dict[bool, dict[str, float]] = {}
    for whole in (True, False):
        parts = []
        for data, keep in ((train, np.arange(60) < 50), (test, kept)):
            assert data.labels is not None
            some = np.array([kind(label) if k else lacking for label, k in zip(data.labels, keep, strict=True)], object)
            part = mvcore.MultimodalDataset.from_batch(data.schema, data.batch(), labels=some)
            parts.append(part.select(keep) if whole and data is test else part)
        classify = {m: lambda x: torch.zeros(len(x), 2) for m in ("a", "b")}
        report = mvcore.evaluate(
            model, parts[1], train=parts[0], metrics=["linear_probe", "clustering", "coherence"],
            resources={"classifiers": classify},
        )  # fmt: skip
        values[whole] = {name: v for name, v in report.values.items() if "unconditional" not in name}
        assert "10 of 60 rows have none" in report.skipped["labels/train"]
        assert ("10 of 40 rows have none" in report.skipped.get("labels/test", "")) == (not whole)
    scored = [name for name in values[True] if "agreement" not in name]
    assert len(scored) > 6
    assert [values[False][name] for name in scored] == pytest.approx([values[True][name] for name in scored])


def test_labels_that_no_row_has_leave_their_metrics_out() -> None:
    data = labelled(20, 0)
    bare = mvcore.MultimodalDataset.from_batch(data.schema, data.batch(), labels=np.array([None] * 20))
    model = mvcore.create("multimodal", data, latent_dim=2)
    model.fit_transforms(data)
    report = mvcore.evaluate(model, bare, train=bare, K=2)
    assert {"linear_probe", "clustering", "coherence"} <= set(report.skipped)
    assert "log_likelihood" in report.values
