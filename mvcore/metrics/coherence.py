"""Whether generated modalities show the class of what they were generated from, for given classifiers."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from torch import Tensor

from mvcore.data.batch import Batch
from mvcore.errors import DataError, NotApplicableError
from mvcore.evaluation.evaluation import Evaluation, has_all, sizes
from mvcore.evaluation.figures import axes_of, by_inputs
from mvcore.evaluation.labels import classes_of
from mvcore.inference.encodings import Encodings
from mvcore.inference.estimators import of_own_categories
from mvcore.inference.isolation import isolated
from mvcore.metrics.baselines import Array
from mvcore.metrics.specs import Average, CoherenceConfig
from mvcore.validators import check_choice

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mvcore.evaluation.report import Report


@final
class Coherence:
    r"""The share of generated observations in the right class, by number of inputs and by target.

    For each subset S of the modalities, on the test rows that have all of it, **one** z is drawn from the posterior
    given S; all modalities outside S are generated from that z, by the decoder's mean (of categories the most probable
    one), whether the row has them or not, and classified.

    - ``coherence/<n>_inputs``: the share whose class is the row's label, over all S of n modalities and their targets;
      ``coherence/to/<target>``: the share over all S without the target.
    - ``coherence/agreement/<n>_inputs``: the share of rows whose targets, two or more, all fall into one class.
    - ``coherence/unconditional``: the share of draws from the prior, or from the sampler that was fitted to the model,
      whose modalities all fall into one class;
      ``coherence/unconditional/entropy``: the entropy in nats of the classes of all these observations, log C at most.
    - ``coherence/random``: 1/C, what a guess reaches; ``coherence/unconditional/random``: :math:`C^{1 - M}`, what M
      independent ones do.

    The resource ``classifiers`` gives for two or more modalities, or all, a callable from observations ``(n, *shape)``
    in data units to logits ``(n, C)``, their columns the sorted labels of the data, or to labels ``(n,)``.

    Args:
        average: ``micro``: every pair of a row and a target counts alike; ``macro``: the mean over subsets and targets
            of their shares, however many rows each has.
        draws: Draws of the prior, or of the fitted sampler.
        sizes: Sizes of the subsets; all, where empty.
    """

    def __init__(self, *, average: Average = "micro", draws: int = 1000, sizes: tuple[int, ...] = ()) -> None:
        check_choice("average", average, Average)
        self.average, self.draws, self.sizes = average, draws, sizes

    def __call__(self, e: Evaluation) -> dict[str, float]:
        """Shares; needs labels and the resource ``classifiers``."""
        labels, have, judge = e.labels(), e.labelled(), _Judge(e)
        right: dict[str, list[Array]] = defaultdict(list)
        for size in sizes(self.sizes, len(e.names) - 1):
            for given in e.subsets(size):
                targets, rows = [t for t in judge.targets if t not in given], e.rows(given).numpy()
                if not targets or not rows.any():
                    continue
                found = judge.generated(e, given, targets)
                for target in targets:
                    hits = found[target][have[rows]] == labels[rows & have]
                    for name in (f"{size}_inputs", f"to/{target}") if len(hits) else ():
                        right[f"coherence/{name}"].append(hits)
                if len(targets) > 1:
                    right[f"coherence/agreement/{size}_inputs"].append(_agree(found))
        values = {name: self._share(parts) for name, parts in sorted(right.items())}
        C = len(judge.classes)
        return {**values, "coherence/random": 1 / C, **self._unconditional(e, judge)}

    def _share(self, parts: list[Array]) -> float:
        return float(np.mean([p.mean() for p in parts]) if self.average == "macro" else np.concatenate(parts).mean())

    def _unconditional(self, e: Evaluation, judge: _Judge) -> dict[str, float]:
        if len(judge.targets) < 2:
            e.skipped["coherence/unconditional"] = "It needs classifiers of two or more modalities."
            return {}
        if e.model.schema.context:
            e.skipped["coherence/unconditional"] = "A model with covariates generates nothing without their values."
            return {}
        try:
            found = judge.unconditional(e, self.draws)
        except NotApplicableError as error:
            e.skipped["coherence/unconditional"] = str(error)
            return {}
        _, counts = np.unique(np.concatenate(list(found.values())), return_counts=True)
        shares = counts / counts.sum()
        return {
            "coherence/unconditional": float(_agree(found).mean()),
            "coherence/unconditional/entropy": float(-(shares * np.log(shares)).sum()),
            "coherence/unconditional/random": math.pow(len(judge.classes), 1 - len(judge.targets)),
        }


class _Judge:
    """The classifiers, and the labels they speak of."""

    def __init__(self, e: Evaluation) -> None:
        self.classifiers: Mapping[str, Callable[[Tensor], Any]] = e.resource(
            "classifiers", "a classifier of each modality, from observations to logits or labels"
        )
        if unknown := sorted(set(self.classifiers) - set(e.names)):
            raise DataError(f"classifiers names {unknown[0]!r}, which is no modality; there are {', '.join(e.names)}.")
        self.targets = [m for m in e.targets if m in self.classifiers]
        if not self.targets:
            raise NotApplicableError("It needs a classifier of one modality at least; classifiers is empty.")
        known = [data.labels for data in (e.test, e.train) if data is not None and data.labels is not None]
        classes = classes_of(*known)
        self.classes = np.empty(len(classes), dtype=object)
        self.classes[:] = classes

    def classify(self, name: str, x: Tensor) -> Array:
        """The label of each observation ``(n,)``."""
        answer = torch.as_tensor(self.classifiers[name](x)).cpu()
        if answer.ndim == 1 and len(answer) == len(x):
            return answer.numpy()
        if answer.shape != (len(x), len(self.classes)):
            raise DataError(
                f"The classifier of {name!r} gave {tuple(answer.shape)} for {len(x)} observations; expected logits of "
                f"shape ({len(x)}, {len(self.classes)}), a column for each label, or labels of shape ({len(x)},)."
            )
        named: Array = self.classes[answer.argmax(1).numpy()]
        return named

    def generated(self, e: Evaluation, given: tuple[str, ...], targets: list[str]) -> dict[str, Array]:
        """Labels of the targets generated from one draw for each test row that has all the given modalities."""

        def classified(view: Encodings, batch: Batch) -> dict[str, Array]:
            rows = has_all(batch, given).nonzero().squeeze(1).to(batch.device)
            latents = e.model.posterior(view).draw(1).take(rows)
            return self._labels(e, latents, targets, batch, rows)

        parts = e.map(classified, given)
        return {t: np.concatenate([part[t] for part in parts]) for t in targets}

    def unconditional(self, e: Evaluation, draws: int) -> dict[str, Array]:
        """Labels of all modalities generated from draws of the model's sampler, or of the prior."""
        sampler = e.model.sampler
        with isolated(e.model, torch.Generator().manual_seed(e.seed)):
            latents = e.model.prior().draw(draws) if sampler is None else sampler.draw(e.model, draws)
            return self._labels(e, latents.values, self.targets)

    def _labels(
        self,
        e: Evaluation,
        latents: Mapping[str, Tensor],
        targets: list[str],
        batch: Batch | None = None,
        rows: Tensor | None = None,
    ) -> dict[str, Array]:
        found = {}
        for t in targets:
            spec, drawn = e.model.schema[t], e.decode(latents, t, batch, rows)
            x = torch.cat([of_own_categories(observation.mean, spec).flatten(0, 1) for observation in drawn])
            found[t] = self.classify(t, x.argmax(1) if spec.categories is not None else x)
        return found


def _agree(found: Mapping[str, Array]) -> Array:
    """Where all arrays of labels ``(n,)`` are equal."""
    first, *others = found.values()
    same: Array = np.all([first == other for other in others], axis=0)
    return same


def build(config: CoherenceConfig) -> Coherence:
    """Builds the coherence."""
    return Coherence(average=config.average, draws=config.draws, sizes=config.sizes)


def draw(report: Report) -> Figure | None:
    """The share in the right class by the number of inputs and by target, beside a random guess."""
    found = report.under("coherence")
    shares, agreement = by_inputs(found), by_inputs(report.under("coherence/agreement"))
    targets = report.under("coherence/to")
    if not shares:
        return None
    figure, (left, right) = axes_of(1, 2, size=(9.5, 3.6))
    left.bar(np.array(list(shares)) - 0.2, list(shares.values()), 0.4, label="right class", color="C0", edgecolor="0.4")
    if agreement:
        x = np.array(list(agreement)) + 0.2
        left.bar(x, list(agreement.values()), 0.4, label="targets agree", color="0.8", edgecolor="0.4")
    left.set(
        xlabel="modalities given", ylabel="share", xticks=list(shares), ylim=(0, 1.05), title="by number of inputs"
    )
    right.barh(list(targets), list(targets.values()), color="C0", edgecolor="0.4")
    right.invert_yaxis()
    right.set(xlabel="share in the right class", xlim=(0, 1.05), title="by target")
    left.axhline(found["random"], color="C3", lw=1, ls="--", label="random guess")
    right.axvline(found["random"], color="C3", lw=1, ls="--")
    figure.legend(loc="outside lower center", ncols=3, fontsize="small")
    return figure
