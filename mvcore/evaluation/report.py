"""Results as numbers in a file, as tables for people, and as figures."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from attrs import evolve, frozen

from mvcore.errors import MissingExtraError
from mvcore.text import clean
from mvcore.writing import whole_folder, write_whole

if TYPE_CHECKING:
    from mvcore.evaluation.imputation import Imputation


@final
@frozen(kw_only=True)
class Report:
    """What ``mvcore.evaluate`` found."""

    values: Mapping[str, float]
    """Values by name, such as ``linear_probe/2_inputs``; ``docs/evaluation.md`` says what each means."""
    skipped: Mapping[str, str]
    """Metrics, or parts of them, that could not be computed, each with the reason."""
    about: Mapping[str, Any]
    """What was measured: model, rows, seed, draws, version."""

    def under(self, prefix: str) -> dict[str, float]:
        """The values whose names go on after ``prefix/``, by the rest of the name."""
        start = f"{prefix}/"
        return {name.removeprefix(start): v for name, v in self.values.items() if name.startswith(start)}

    def to_json(self, path: str | os.PathLike[str]) -> Path:
        """Writes the report as JSON, whole or not at all; a value that is not finite is written as null."""
        return write_whole(Path(path), self.json().encode())

    def markdown(self) -> str:
        """A table of the values, one of what was left out, and what was measured."""
        about = ", ".join(f"{key} {clean(value)}" for key, value in self.about.items() if value is not None)
        parts = [f"# Evaluation\n\n{about}", markdown(("value", ""), self.values.items())]
        if self.skipped:
            parts.append(markdown(("left out", "why"), self.skipped.items()))
        return "\n\n".join(parts) + "\n"

    def figures(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Draws each metric that was computed and has a figure into a PNG of its name; needs matplotlib."""
        from mvcore.evaluation.report_figures import draw

        Path(folder).mkdir(parents=True, exist_ok=True)
        return [write_whole(Path(folder) / f"{name}.png", _png(figure)) for name, figure in draw(self).items()]

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Writes ``report.json``, ``report.md`` and the figures into a folder, whole or not at all.

        Without matplotlib the figures are left out, with a warning, and the report says so.

        Raises:
            DataError: If the folder holds something; a report replaces nothing.
            FileAccessError: If the system does not let it be written.
        """
        with whole_folder(folder) as staging:
            report = self._drawn(staging)
            report.to_json(staging / "report.json")
            write_whole(staging / "report.md", report.markdown().encode())
        return Path(folder)

    def _drawn(self, folder: Path) -> Report:
        """This report, its figures in a folder, or a report that says why there are none."""
        try:
            self.figures(folder)
        except MissingExtraError as error:
            warnings.warn(f"The report has no figures. {error}", stacklevel=3)
            return evolve(self, skipped={**self.skipped, "figures": str(error)})
        return self

    def json(self) -> str:
        """The report as JSON text; a value that is not finite is null."""
        values = {name: value if math.isfinite(value) else None for name, value in self.values.items()}
        whole = {"about": dict(self.about), "values": values, "skipped": dict(self.skipped)}
        return json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


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
    return f"{value:.3f}" if isinstance(value, float) else clean(value).replace("|", "\\|")


def _png(figure: Any) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
