"""Whether predictive intervals hold what they say: the share of hidden values that lie inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor

from mvcore.data.batch import Batch
from mvcore.errors import NotApplicableError
from mvcore.evaluation.evaluation import Evaluation, has_and_another
from mvcore.evaluation.figures import axes_of, grouped
from mvcore.inference.encodings import Encodings
from mvcore.metrics.specs import IntervalCoverageConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mvcore.evaluation.report import Report


@final
class IntervalCoverage:
    r"""``interval_coverage/<modality>/<level>``: the share of hidden values in the central predictive interval.

    Of S draws of a value, z from the posterior given the other modalities that the row has and x from the likelihood,
    the interval of level a reaches from the k-th smallest to the k-th largest, :math:`k = (S + 1)(1 - a) / 2`. If the
    truth is one more draw of the same distribution, it lies inside with probability a exactly, for continuous values
    and whole k; k is rounded down otherwise. Counts have ties at the ends and lie inside at least as often.

    0/1 values and categories have no intervals, and are left out.

    Args:
        levels: Nominal levels.
        draws: Draws S of each value.
    """

    def __init__(self, *, levels: Sequence[float] = (0.5, 0.8, 0.9, 0.95), draws: int = 399) -> None:
        self.levels, self.draws = tuple(levels), draws

    def __call__(self, e: Evaluation) -> dict[str, float]:
        """Shares over all known values of the rows that have the modality and another."""
        values = {}
        for name in e.targets:
            kind = e.model.schema[name].likelihood
            if kind in ("bernoulli", "categorical"):
                e.skipped[f"interval_coverage/{name}"] = f"A {kind} value has no interval; see its accuracy."
            elif not bool(has_and_another(e.test, name).any()):
                e.skipped[f"interval_coverage/{name}"] = "No test row has it and another modality."
            else:
                beside = self._values_beside(e, name)
                for level in self.levels:
                    k = max(1, int((self.draws + 1) * (1 - level) / 2 + 1e-9))
                    values[f"interval_coverage/{name}/{level:g}"] = float((beside >= k).float().mean())
        if not values:
            raise NotApplicableError("No modality has intervals, or no test row has one of them and another modality.")
        return values

    def _values_beside(self, e: Evaluation, name: str) -> Tensor:
        """For each hidden value how many draws are at most, or at least, as large, whichever are fewer."""

        def count(view: Encodings, batch: Batch) -> Tensor:
            rows = has_and_another(batch, name).nonzero().squeeze(1)
            one = batch.only([name]).select(rows)
            x, known = one.values(name)
            below, above = torch.zeros_like(x), torch.zeros_like(x)
            latents = e.model.posterior(view).draw(self.draws)
            for observation in e.decode(latents.take(rows.to(batch.device)), name, batch, rows.to(batch.device)):
                drawn = observation.sample(1)[0]
                below += (drawn <= x).sum(0)
                above += (drawn >= x).sum(0)
            beside = torch.minimum(below, above)
            return (beside.flatten() if known is None else beside[known]).cpu()

        return torch.cat(e.map(count, [m for m in e.names if m != name]))


def build(config: IntervalCoverageConfig) -> IntervalCoverage:
    """Builds the coverage of predictive intervals."""
    return IntervalCoverage(levels=config.levels, draws=config.draws)


def draw(report: Report) -> Figure | None:
    """The share of values inside against the nominal level, a line for each modality."""
    found = grouped(report.under("interval_coverage"))
    if not found:
        return None
    figure, axes = axes_of(1, 1, size=(5.4, 3.8))
    axes.plot([0, 1], [0, 1], color="0.6", lw=1, ls="--", label="exact")
    for name, shares in found.items():
        points = sorted((float(level), share) for level, share in shares.items())
        axes.plot(*zip(*points, strict=True), marker="o", ms=4, label=name)
    axes.set(xlabel="nominal level", ylabel="share of hidden values inside", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
