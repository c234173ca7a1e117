"""What metrics measure: a model on test rows, every modality encoded once and fused for any subset."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import combinations
from types import MappingProxyType
from typing import Any, Literal, TypeVar, final

import numpy as np
import torch
from torch import Tensor

from mvcore import arguments
from mvcore.data.align import aligned
from mvcore.data.batch import Batch
from mvcore.data.rows import Rows, batches, column
from mvcore.errors import NotApplicableError
from mvcore.evaluation.labels import has_label
from mvcore.inference.encodings import Encodings
from mvcore.inference.estimators import decoded, log_likelihood
from mvcore.inference.isolation import isolated
from mvcore.likelihoods.observations import Observation
from mvcore.models.base import Model

T = TypeVar("T")
Part = Literal["test", "train"]


@final
class Evaluation:
    """A trained model on test rows; each network encodes each row once, however many subsets are asked for.

    One rule says which rows count. **A named set of modalities means the rows that have all of it**, and they are
    conditioned on it alone. Where no set is named, each row is conditioned on all that it has.

    Draws depend on ``seed`` and the batch alone, not on what was asked before; the global random state stays as it is.

    Args:
        model: A trained model.
        test: The rows to measure on, complete or partial.
        train: The rows that the model was trained on; probes and simple predictors learn from them.
        seed: Seed of all draws.
        K: Draws of each row, for metrics that do not say how many they take.
        batch_size: Rows encoded and decoded at once. It changes nothing but the draws.
        resources: What is not JSON and some metrics need, such as ``{"classifiers": {…}}``.
        watch: Told the number of each batch that a function is done with, and how many there are.

    Raises:
        DataError: If the data does not fit the model.
    """

    def __init__(
        self,
        model: Model,
        test: Rows,
        train: Rows | None = None,
        *,
        seed: int = 0,
        K: int = 100,
        batch_size: int = 256,
        resources: Mapping[str, Any] | None = None,
        watch: Callable[[int, int], object] | None = None,
    ) -> None:
        K, batch_size = arguments.count("K", K), arguments.count("batch_size", batch_size)
        seed = arguments.seed("seed", seed)
        test, train = aligned(test, model.schema), None if train is None else aligned(train, model.schema)
        for data in [test] if train is None else [test, train]:
            model.check(data)
        self.model, self.test, self.train, self.seed, self.K, self.batch_size = model, test, train, seed, K, batch_size
        self.resources = MappingProxyType(dict(arguments.mapping("resources", resources)))
        #: Parts of metrics that were left out, each with the reason.
        self.skipped: dict[str, str] = {}
        self._encodings: dict[Part, list[Encodings]] = {}
        self._log_likelihoods: dict[int, list[Tensor]] = {}
        self._watch = watch

    @property
    def names(self) -> tuple[str, ...]:
        """The modalities, in order."""
        return self.model.schema.names

    @property
    def targets(self) -> tuple[str, ...]:
        """The modalities that the model generates, in order; conditions are not among them."""
        return self.model.generated

    def encodings(self, part: Part = "test") -> list[Encodings]:
        """The encoded modalities, one entry for each batch; encoded on the first call, kept for all others."""
        if part not in self._encodings:
            data = self.test if part == "test" else self.training()
            device = self.model.device
            with isolated(self.model, None):
                self._encodings[part] = [
                    self.model.encode_modalities(batch.to(device)) for batch in batches(data, self.batch_size)
                ]
        return self._encodings[part]

    def map(
        self,
        function: Callable[[Encodings, Batch], T],
        given: Iterable[str] | None = None,
        part: Part = "test",
    ) -> list[T]:
        """What a function makes of each batch, in evaluation mode and without gradients.

        Args:
            function: Takes the encodings of what is given and the whole batch. Its draws come from the global
                generator, which is seeded for each batch and put back.
            given: The modalities to condition on; all that each row has, where None.
            part: ``test`` or ``train``.
        """
        names, results = None if given is None else tuple(given), []
        for i, encodings in enumerate(self.encodings(part)):
            view = encodings if names is None else encodings.only(names)
            with isolated(self.model, torch.Generator().manual_seed(1_000_003 * self.seed + i)):
                results.append(function(view, encodings.batch))
            if self._watch is not None:
                self._watch(i + 1, len(self.encodings(part)))
        return results

    def log_likelihoods(self, K: int) -> list[Tensor]:
        """Log p(what a row has) of the test rows ``(B,)``, one entry for each batch; estimated once for each K."""
        if K not in self._log_likelihoods:
            self._log_likelihoods[K] = self.map(lambda view, batch: log_likelihood(self.model, batch, view, K))
        return self._log_likelihoods[K]

    def embed(self, given: Iterable[str] | None = None, part: Part = "test") -> np.ndarray[Any, Any]:
        """Posterior means of the shared latent ``(n, D)`` of all rows; the prior's for a row with nothing given."""
        points = self.map(lambda view, _: self.model.posterior(view).point()["shared"][0], given, part)
        return torch.cat(points).cpu().numpy()

    def decode(
        self, latents: Mapping[str, Tensor], name: str, batch: Batch | None = None, rows: Tensor | None = None
    ) -> Iterator[Observation]:
        """p(x_m | latents) for latents ``(K, N, …)``, in blocks of draws that fit into a cache.

        Args:
            latents: The latents.
            name: The modality.
            batch: The rows whose covariates and size factors are meant; None where there are none.
            rows: The row of each pair ``(N,)``; None where pair n is row n.
        """
        return decoded(self.model, latents, name, batch, rows)

    def rows(self, given: Iterable[str]) -> Tensor:
        """Which test rows ``(n,)`` have all the given modalities."""
        return has_all(self.test, given)

    def subsets(self, size: int) -> list[tuple[str, ...]]:
        """Every subset of the modalities with as many members."""
        return list(combinations(self.names, size))

    def labels(self) -> np.ndarray[Any, Any]:
        """The labels of the test rows ``(n,)``, None or NaN where a row has none; see ``labelled``.

        Raises:
            NotApplicableError: If there are none.
        """
        return _labels("test", self.test)

    def labelled(self, part: Part = "test") -> np.ndarray[Any, Any]:
        """Which rows ``(n,)`` have a label; where some have none, the report says how many were left out.

        Raises:
            NotApplicableError: If no row has a label.
        """
        data = self.test if part == "test" else self.training()
        have = has_label(_labels(part, data))
        if not have.all():
            lacking = int((~have).sum())
            self.skipped[f"labels/{part}"] = (
                f"{lacking} of {len(have)} rows have none; metrics of labels leave them out."
            )
        return have

    def training(self) -> Rows:
        """The training rows.

        Raises:
            NotApplicableError: If they were not given.
        """
        if self.train is None:
            raise NotApplicableError("It needs the training rows; give train=….")
        return self.train

    def training_labels(self) -> np.ndarray[Any, Any]:
        """The labels of the training rows ``(n,)``.

        Raises:
            NotApplicableError: If there are none.
        """
        return _labels("train", self.training())

    def resource(self, name: str, what: str) -> Any:
        """What was given as a resource.

        Args:
            name: Its name.
            what: What it should be, for the error.

        Raises:
            NotApplicableError: If it was not given.
        """
        if name not in self.resources:
            raise NotApplicableError(f"It needs {what}; give resources={{{name!r}: …}}.")
        return self.resources[name]


def has_all(rows: Batch | Rows, names: Iterable[str]) -> Tensor:
    """Which rows ``(B,)`` have all of some modalities, on the host."""
    have = torch.ones(len(rows), dtype=torch.bool)
    for name in names:
        have &= _column(rows, name)
    return have


def has_and_another(rows: Batch | Rows, name: str) -> Tensor:
    """Which rows ``(B,)`` have a modality and at least one other, on the host."""
    return _column(rows, name) & (rows.observed.sum(1) > 1)


def _column(rows: Batch | Rows, name: str) -> Tensor:
    return rows.only([name]).observed[:, 0] if isinstance(rows, Batch) else column(rows, name)


def sizes(chosen: tuple[int, ...], most: int) -> list[int]:
    """The sizes of subsets to look at: those chosen, up to ``most``; all where none is chosen."""
    return [size for size in range(1, most + 1) if not chosen or size in chosen]


def _labels(part: Part, data: Rows) -> np.ndarray[Any, Any]:
    if data.labels is None or not has_label(data.labels).any():
        raise NotApplicableError(f"It needs labels, and the {part} rows have none; give labels=… to the data set.")
    return data.labels
