"""The figures of a report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mvcore.evaluation.figures import axes_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mvcore.evaluation.report import Report

LOWEST = -0.1  #: Scores below are drawn as this: how bad a prediction is beyond useless would hide the others.


def draw(report: Report) -> dict[str, Figure]:
    """The figure of each metric that the report has values for."""
    drawn = {
        "linear_probe": _by_size(report, "linear_probe", "accuracy of the linear probe"),
        "coherence": _coherence(report),
        "imputation": _imputation(report),
        "interval_coverage": _coverage(report),
        "conditional_log_likelihood": _conditional(report),
    }
    return {name: figure for name, figure in drawn.items() if figure is not None}


def _by_size(report: Report, prefix: str, label: str) -> Figure | None:
    bars = _sizes(report.under(prefix))
    if not bars:
        return None
    figure, axes = axes_of(1, 1, size=(1.5 + 0.7 * len(bars), 3.2))
    axes.bar(list(bars), list(bars.values()), color="C0", edgecolor="0.4")
    for size, value in bars.items():
        axes.annotate(f"{value:.2f}", (size, value), ha="center", va="bottom", fontsize="small")
    axes.set(xlabel="modalities given", ylabel=label, xticks=list(bars), ylim=(0, 1.1))
    return figure


def _coherence(report: Report) -> Figure | None:
    found = report.under("coherence")
    sizes, agreement = _sizes(found), _sizes(report.under("coherence/agreement"))
    targets = report.under("coherence/to")
    if not sizes:
        return None
    figure, (left, right) = axes_of(1, 2, size=(9.5, 3.6))
    left.bar(np.array(list(sizes)) - 0.2, list(sizes.values()), 0.4, label="right class", color="C0", edgecolor="0.4")
    if agreement:
        x = np.array(list(agreement)) + 0.2
        left.bar(x, list(agreement.values()), 0.4, label="targets agree", color="0.8", edgecolor="0.4")
    left.set(xlabel="modalities given", ylabel="share", xticks=list(sizes), ylim=(0, 1.05), title="by number of inputs")
    right.barh(list(targets), list(targets.values()), color="C0", edgecolor="0.4")
    right.invert_yaxis()
    right.set(xlabel="share in the right class", xlim=(0, 1.05), title="by target")
    left.axhline(found["random"], color="C3", lw=1, ls="--", label="random guess")
    right.axvline(found["random"], color="C3", lw=1, ls="--")
    figure.legend(loc="outside lower center", ncols=3, fontsize="small")
    return figure


def _imputation(report: Report) -> Figure | None:
    found = report.under("imputation")
    names = [name for name in found if "/" not in name]
    if not names:
        return None
    kinds = {"": ("model", "C0"), "/ridge": ("ridge", "0.55"), "/neighbours": ("neighbours", "0.75"),
             "/mean": ("mean", "0.92")}  # fmt: skip
    kinds = {end: look for end, look in kinds.items() if any(name + end in found for name in names)}
    figure, axes = axes_of(1, 1, size=(2 + 0.9 * len(names), 3.6))
    for i, (end, (label, color)) in enumerate(kinds.items()):
        x = np.arange(len(names)) + 0.8 * ((i + 0.5) / len(kinds) - 0.5)
        heights = [max(LOWEST, found.get(name + end, np.nan)) for name in names]
        axes.bar(x, heights, 0.8 / len(kinds), label=label, color=color, edgecolor="0.4")
    axes.axhline(0, color="0.4", lw=0.8)
    axes.set(xticks=range(len(names)), xticklabels=names, ylabel="R² or accuracy", title="One modality hidden")
    axes.tick_params("x", rotation=30 if max(map(len, names)) > 6 else 0)
    figure.legend(loc="outside lower center", ncols=4, fontsize="small")
    return figure


def _coverage(report: Report) -> Figure | None:
    found = report.under("interval_coverage")
    if not found:
        return None
    figure, axes = axes_of(1, 1, size=(5.4, 3.8))
    axes.plot([0, 1], [0, 1], color="0.6", lw=1, ls="--", label="exact")
    for name in dict.fromkeys(key.rpartition("/")[0] for key in found):
        points = sorted((float(level), value) for level, value in _rest(found, name).items())
        axes.plot(*zip(*points, strict=True), marker="o", ms=4, label=name)
    axes.set(xlabel="nominal level", ylabel="share of hidden values inside", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _conditional(report: Report) -> Figure | None:
    found = report.under("conditional_log_likelihood")
    if not found:
        return None
    names = list(dict.fromkeys(key.rpartition("/")[0] for key in found))
    figure, axes = axes_of(1, len(names), size=(1.2 + 1.5 * len(names), 3.0), squeeze=False)
    for ax, name in zip(axes[0], names, strict=True):
        kinds = _rest(found, name)
        ax.plot(range(len(kinds)), list(kinds.values()), "o", color="C0")
        ax.set(title=name, xticks=range(len(kinds)), xlim=(-0.5, len(kinds) - 0.5))
        ax.set_xticklabels(list(kinds), rotation=45, ha="right")
        ax.tick_params(labelsize="small")
    axes[0, 0].set_ylabel("log p(target | others), nats")
    return figure


def _sizes(values: Mapping[str, float]) -> dict[int, float]:
    """Values by number of inputs, from names such as ``2_inputs``."""
    counts = {name.removesuffix("_inputs"): v for name, v in values.items() if name.endswith("_inputs")}
    return {int(count): value for count, value in sorted(counts.items()) if count.isdecimal()}


def _rest(values: Mapping[str, float], name: str) -> dict[str, float]:
    return {key.removeprefix(f"{name}/"): v for key, v in values.items() if key.rpartition("/")[0] == name}
