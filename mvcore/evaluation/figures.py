"""Results as figures; each function draws into the axes of a matplotlib figure and returns the figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mvcore.data import rows as rows_of
from mvcore.extras import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mvcore.data.rows import Rows


def patterns(data: Rows, *, most: int = 15) -> Figure:
    """How many rows have each set of modalities: bars above a matrix of what the set holds."""
    every = rows_of.patterns(data)
    counts = dict(list(every.items())[:most])
    figure, (above, below) = axes_of(2, 1, size=(7, 4.5), sharex=True, gridspec_kw={"height_ratios": (2, 1)})
    above.bar(range(len(counts)), list(counts.values()), color="C0")
    above.set(ylabel="rows", title=f"Observed modalities: {len(data)} rows, {len(every)} patterns")
    names = data.schema.names
    for column, pattern in enumerate(counts):
        has = [i for i, name in enumerate(names) if name in pattern]
        below.scatter([column] * len(names), range(len(names)), color="0.88", s=36)
        below.scatter([column] * len(has), has, color="C0", s=36)
    below.set(yticks=range(len(names)), yticklabels=names, xticks=[], ylim=(len(names) - 0.5, -0.5))
    return figure


def history(rows: Sequence[dict[str, Any]]) -> Figure:
    """The loss and its terms over the epochs, one panel for the loss and one for the divergences."""
    figure, axes = axes_of(1, 2, size=(10.5, 3.2))
    epochs = [row["epoch"] for row in rows]
    axes[0].plot(epochs, [row["loss"] for row in rows], label="training")
    if "validation_loss" in rows[-1]:
        axes[0].plot(epochs, [row["validation_loss"] for row in rows], label="validation")
        axes[0].legend()
    axes[0].set(xlabel="epoch", ylabel="loss (nats a row)")
    for name in [n for n in rows[-1] if n.startswith(("kl", "reconstruction"))]:
        axes[1].plot(epochs, np.array([row[name] for row in rows]) - rows[-1][name], label=name)
    axes[1].set(xlabel="epoch", ylabel="term above its last value (nats)", yscale="symlog")
    axes[1].legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def embedding(points: Any, labels: Any, *, title: str) -> Figure:
    """The first two principal components of embeddings ``(n, D)``, coloured by label."""
    centred = np.asarray(points) - np.asarray(points).mean(0)
    plane = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    figure, axes = axes_of(1, 1, size=(4.8, 4.2))
    for i, label in enumerate(np.unique(labels)):
        here = np.asarray(labels) == label
        axes.scatter(*plane[here].T, s=9, color=f"C{i}", label=str(label))
    axes.set(xlabel="component 1", ylabel="component 2", title=title)
    axes.legend(fontsize="small", markerscale=2, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def image_rows(rows: dict[str, Any], *, title: str) -> Figure:
    """Images ``(n, height, width)`` one row for each name, such as the truth above its imputation."""
    rows = {name: np.asarray(images) for name, images in rows.items()}
    count = len(next(iter(rows.values())))
    figure, axes = axes_of(len(rows), count, size=(0.75 * count + 1, 0.85 * len(rows) + 0.4))
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        for ax, image in zip(line, images, strict=True):
            ax.imshow(image, cmap="gray_r", vmin=rows["truth"].min(), vmax=rows["truth"].max())
            ax.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
    figure.suptitle(title)
    return figure


def bars_by_inputs(values: Mapping[str, float], label: str) -> Figure | None:
    """A bar for each number of inputs, its value above it; None where there is none.

    Args:
        values: Shares or other values from 0 to 1 by name; those not called ``<n>_inputs`` are not drawn.
        label: What the values are.
    """
    bars = by_inputs(values)
    if not bars:
        return None
    figure, axes = axes_of(1, 1, size=(1.5 + 0.7 * len(bars), 3.2))
    axes.bar(list(bars), list(bars.values()), color="C0", edgecolor="0.4")
    for size, value in bars.items():
        axes.annotate(f"{value:.2f}", (size, value), ha="center", va="bottom", fontsize="small")
    axes.set(xlabel="modalities given", ylabel=label, xticks=list(bars), ylim=(0, 1.1))
    return figure


def by_inputs(values: Mapping[str, float]) -> dict[int, float]:
    """The values called ``<n>_inputs``, by the number n."""
    counts = {name.removesuffix("_inputs"): v for name, v in values.items() if name.endswith("_inputs")}
    return dict(sorted((int(count), value) for count, value in counts.items() if count.isdecimal()))


def grouped(values: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Values called ``<name>/<part>`` by their names, then by their parts; a name may itself hold a ``/``."""
    found: dict[str, dict[str, float]] = {}
    for key, value in values.items():
        name, _, part = key.rpartition("/")
        found.setdefault(name, {})[part] = value
    return found


def axes_of(rows: int, columns: int, *, size: tuple[float, float], **options: Any) -> tuple[Figure, Any]:
    """A figure with so many rows and columns of axes, of a size in inches, and the axes.

    Raises:
        MissingExtraError: Without matplotlib.
    """
    canvas = require("matplotlib.backends.backend_agg", "eval", "A figure")
    figure = figure_class()(figsize=size, dpi=110, layout="constrained")
    canvas.FigureCanvasAgg(figure)  # no pyplot: a library must not open windows or keep figures alive
    return figure, figure.subplots(rows, columns, **options)


def figure_class() -> type[Figure]:
    """Matplotlib's ``Figure``.

    Raises:
        MissingExtraError: Without matplotlib.
    """
    found: type[Figure] = require("matplotlib.figure", "eval", "A figure").Figure
    return found
