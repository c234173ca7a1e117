"""Results as numbers in a file, as tables for people, and as figures."""

from __future__ import annotations

import json
import logging
import math
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from attrs import evolve, frozen

from mvcore.config.reading import JSON_LIMIT, parse_json, read_bounded
from mvcore.errors import DataError, MissingExtraError, ModelFileError
from mvcore.evaluation.figures import figure_class
from mvcore.plugins.registry import Entry, Registry
from mvcore.plugins.spec import ComponentSpec
from mvcore.storage.writing import whole_folder, write_whole
from mvcore.text import clean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)


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

    def finite(self) -> dict[str, float]:
        """The values that are finite numbers."""
        return {name: value for name, value in self.values.items() if math.isfinite(value)}

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Report:
        """A report from its JSON, or from the folder that ``save`` wrote; null is read as NaN.

        Raises:
            DataError: If it is none.
            FileAccessError: If the system does not let it be read.
        """
        file = Path(path) / "report.json" if Path(path).is_dir() else Path(path)
        try:
            return cls.parsed(read_bounded(file, JSON_LIMIT))
        except (FileNotFoundError, NotADirectoryError):
            raise DataError(f"{str(path)!r} holds no report: there is no {file.name!r}.") from None
        except ModelFileError as error:
            raise DataError(str(error)) from error
        except ValueError as error:
            raise DataError(f"{str(file)!r} is no report: {error}.") from error

    @classmethod
    def parsed(cls, content: bytes) -> Report:
        """A report from the bytes of its JSON.

        Raises:
            ValueError: If they are none; the message says what is wrong, without a full stop.
        """
        whole = parse_json(content)
        parts: list[Any] = (
            [whole.get(part) for part in ("about", "values", "skipped")] if isinstance(whole, dict) else []
        )
        if not parts or not all(isinstance(part, dict) for part in parts):
            raise ValueError("it has not the tables about, values and skipped")
        about, values, skipped = parts
        if not all(value is None or type(value) in (int, float) for value in values.values()):
            raise ValueError("its values are not all numbers")
        numbers = {name: math.nan if value is None else float(value) for name, value in values.items()}
        return cls(values=numbers, skipped={name: str(why) for name, why in skipped.items()}, about=about)

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

    def draw(self) -> dict[str, Figure]:
        """The figure of each installed metric that has one, and values here, by the metric's name.

        Where metrics of two distributions have one name, theirs stand by ``<distribution>_<name>``. A metric whose
        figure is broken is left out with a warning in the log; its values are in the report all the same.

        Raises:
            MissingExtraError: Without matplotlib.
        """
        registry, found = Registry.installed(), {}
        for entry in registry.entries("metric"):
            try:
                figure = _drawn(registry.load(entry), self)
            except MissingExtraError:
                raise
            except Exception as cause:  # a fault of one plugin must not cost the whole report
                log.warning("The figure of %s is left out: %s: %s", entry.id, type(cause).__name__, cause)
                continue
            if figure is not None:
                found[entry] = figure
        return _by_name(found)

    def figures(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Writes what ``draw`` gives into a folder, each figure as a PNG of its name.

        Raises:
            MissingExtraError: Without matplotlib.
        """
        drawn = self.draw()
        Path(folder).mkdir(parents=True, exist_ok=True)
        return [write_whole(Path(folder) / f"{name}.png", _png(figure)) for name, figure in drawn.items()]

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


def _drawn(spec: ComponentSpec, report: Report) -> Figure | None:
    drawer = spec.drawer()
    figure = None if drawer is None else drawer(report)
    if figure is not None and not isinstance(figure, figure_class()):
        raise TypeError(f"{spec.figure!r} gave {figure!r}, expected a matplotlib figure or None")
    return figure


def _by_name(found: Mapping[Entry, Figure]) -> dict[str, Figure]:
    names = Counter(entry.name for entry in found)
    return {e.name if names[e.name] == 1 else f"{e.dist}_{e.name}": figure for e, figure in found.items()}


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else clean(value).replace("|", "\\|")


def _png(figure: Any) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
