"""The demonstration's tables and files say what the report says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import mvcore
from mvcore.cli import _demo
from mvcore.evaluation.report import Report


@pytest.fixture
def data() -> mvcore.MultimodalDataset:
    """Twelve rows, of which four lack the values, and three others the flags."""
    rows = np.arange(12)
    return mvcore.MultimodalDataset(
        {"value": np.stack([rows, rows], 1) / 12, "flag": np.stack([rows % 2, rows % 3 > 0], 1).astype(float)},
        {"value": rows >= 4, "flag": rows < 9},
        likelihoods={"flag": "bernoulli"},
    )


def test_a_hidden_modality_has_a_line_in_the_table_and_a_bar_in_the_figure(
    data: mvcore.MultimodalDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = {"": 0.5, "/mean": 0.0, "/ridge": 0.4, "/neighbours": 0.3}
    values = {f"imputation/{m}{end}": score for m in ("value", "flag") for end, score in scores.items()}
    report = Report(values=values, skipped={}, about={})
    rows = _demo.hidden(report, data, data)
    _demo.show_results(report, rows, {"log p": -3.25}, tmp_path, "toy")
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    assert ["modality", "score", "rows", "model", "mean", "ridge", "neighbours"] in lines
    # five rows have both, so that either can be hidden and predicted from the other
    assert ["value", "R²", "5", "0.500", "0.000", "0.400", "0.300"] in lines
    assert ["flag", "accuracy", "5", "0.500", "0.000", "0.400", "0.300"] in lines
    assert ["log p", "-3.250"] in lines
    read = json.loads((tmp_path / "toy_metrics.json").read_text())
    assert read["metrics"] == {"log p": -3.25}
    assert [row["modality"] for row in read["imputation"]] == ["value", "flag"]
    assert {file.name for file in tmp_path.iterdir()} == {"toy_metrics.json", "toy_imputation.png"}
