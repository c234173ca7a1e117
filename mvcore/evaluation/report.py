"""Results as tables for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from mvcore.evaluation.imputation import Imputation


def markdown(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table, aligned; floats with three decimals."""
    cells = [list(header), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = ["| " + " | ".join(v.ljust(w) for v, w in zip(row, widths, strict=True)) + " |" for row in cells]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])


def imputation_table(results: Iterable[Imputation]) -> str:
    """Scores of each hidden modality, one row each."""
    rows = [(r.modality, r.score, r.rows, r.model, r.mean, r.ridge, r.neighbours) for r in results]
    return markdown(("hidden", "score", "rows", "model", "mean", "ridge", "neighbours"), rows)


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
