"""What a trained model gives back for a data set: filled tables with intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, final

import torch
from attrs import frozen
from torch import Tensor

from mvcore import arguments
from mvcore.data.align import aligned
from mvcore.data.frames import to_frame
from mvcore.data.rows import Rows, batches
from mvcore.data.schema import ModalitySpec
from mvcore.data.tables import index_of, pandas
from mvcore.errors import DataError
from mvcore.inference.finite import check_answers
from mvcore.inference.predictive import Predicted, predict, rank

if TYPE_CHECKING:
    from mvcore.models.base import Model

#: Values held at once, K draws of a block of rows: 8 MiB in float32. Sorting and decoding them takes a few times that.
VALUES = 2**21


@final
@frozen(kw_only=True)
class Imputed:
    """One modality of every row: DataFrames (ids × columns) where the modality has columns, else tensors.

    What is observed is itself in ``filled``, ``low`` and ``high`` alike, in float32, as the data set holds it.
    """

    filled: Any
    """The predictive mean of what is not observed: of booleans the probability of True; of categories the most
    probable one."""
    low: Any = None
    """The lower limits of the interval; None without one, and of categories, which have ``probabilities``."""
    high: Any = None
    """The upper limits."""
    probabilities: Any = None
    """Of categories: ``(n, P, *shape)``, or a DataFrame whose columns are pairs of column and category."""
    samples: Tensor | None = None
    """``(S, n, *shape)``, categories as codes; the s-th samples of all modalities have the same latents."""


def impute(
    model: Model,
    data: Rows,
    *,
    interval: float | None = None,
    K: int = 500,
    samples: int | None = None,
    seed: int = 0,
    batch_size: int = 512,
) -> dict[str, Imputed]:
    """Fills every modality of every row, observed values kept, with intervals of the predictive distribution.

    A predictive draw takes latents from the posterior given all that the row has, and a value from the likelihood
    given these, in data units. The limits are the i-th smallest and i-th greatest of K such draws, with the greatest i
    that holds a further draw with probability at least ``interval``. They are exact order statistics: rows are worked
    on in blocks small enough to hold their K draws, so memory does not grow with the rows, and with K only where the
    K draws of a single row are more than a block.

    Args:
        model: A trained model.
        data: Rows with any pattern of observed modalities and cells, columns as in the model's schema.
        interval: Probability of the intervals, such as 0.9; None for none.
        K: Draws for each row; at least 2 / (1 − interval) − 1.
        samples: Predictive samples to return of each row, at most K; None for none.
        seed: Seed of the draws. Results depend on it, on K and on how rows are blocked.
        batch_size: Most rows of a block.

    Raises:
        DataError: If the data does not fit the model, or a number is out of its range.
        MissingExtraError: If there are tables to return, but no pandas.

    Returns:
        For each modality of the model its ``Imputed``; none for conditions, which the model has no density of.
    """
    whole: dict[str, dict[str, Tensor]] = {}
    first = 0
    parts = predictions(model, data, interval=interval, K=K, samples=samples, seed=seed, batch_size=batch_size)
    for part in parts:
        for m, predicted in part.items():
            _put(whole.setdefault(m, {}), predicted, first, len(data))
        first += len(next(iter(part.values())).filled)
    return {m: _imputed(whole[m], model.schema[m], data.ids) for m in model.generated}


def predictions(
    model: Model,
    data: Rows,
    *,
    interval: float | None,
    K: int,
    samples: int | None,
    seed: int,
    batch_size: int,
) -> Iterator[dict[str, Predicted]]:
    """The predictions of the rows in order, block by block, on the host; arguments as for ``impute``."""
    data = checked(model, data)
    K, batch_size = arguments.count("K", K), arguments.count("batch_size", batch_size)
    seed = arguments.seed("seed", seed)
    if interval is not None and not 0 < arguments.real("interval", interval) < 1:
        raise DataError(f"interval must lie between 0 and 1, such as 0.9; got {interval!r}.")
    if interval is not None and rank(interval, K) < 1:
        raise DataError(f"K must be at least {2 / (1 - interval) - 1:.0f} for an interval of {interval!r}; got {K!r}.")
    if samples is not None and arguments.count("samples", samples) > K:
        raise DataError(f"samples must be from 1 to K = {K}; got {samples!r}.")
    generator = torch.Generator().manual_seed(seed)
    latents = sum(math.prod(shape) for shape in model.latent_shapes.values())
    generated = [model.schema[m] for m in model.generated]
    largest = max(latents, *(spec.size * (spec.categories or 1) for spec in generated))
    first = 0
    for batch in batches(data, min(batch_size, max(1, VALUES // (K * largest)))):
        moved = batch.to(model.device)
        out = predict(model, moved, interval=interval, K=K, samples=samples, generator=generator)
        answers = [value for p in out.values() for value in (p.filled, p.low, p.high, p.probabilities)]
        check_answers(model, moved, "imputed value", answers, first=first, ids=data.ids)
        first += len(batch)
        yield {m: p.cpu() for m, p in out.items()}


def checked(model: Model, data: Rows) -> Rows:
    """The rows as the model has them."""
    from mvcore.models.base import Model  # which needs this room

    if not isinstance(model, Model):
        raise DataError(f"model must be a model, as mvcore.create or mvcore.load gives it; got {type(model).__name__}.")
    data = aligned(data, model.schema)
    if not len(data):
        raise DataError("The data set has no rows; there is nothing to fill.")
    model.check(data)
    return data


def _put(whole: dict[str, Tensor], part: Predicted, first: int, size: int) -> None:
    """Writes what is predicted of some rows, from ``first`` on, into tensors of all rows."""
    for name in ("filled", "low", "high", "probabilities", "samples"):
        value: Tensor | None = getattr(part, name)
        if value is None:
            continue
        dim = 1 if name == "samples" else 0
        if name not in whole:
            shape = list(value.shape)
            shape[dim] = size
            whole[name] = value.new_empty(shape)
        whole[name].narrow(dim, first, value.shape[dim]).copy_(value)


def _imputed(whole: dict[str, Tensor], spec: ModalitySpec, ids: Any) -> Imputed:
    samples = whole.pop("samples", None)
    if spec.columns is None:
        return Imputed(**whole, samples=samples)
    probabilities = whole.pop("probabilities", None)
    frames = {name: to_frame(value, spec, ids) for name, value in whole.items()}
    table = None if probabilities is None else _table_of_probabilities(probabilities, spec, ids)
    return Imputed(**frames, probabilities=table, samples=samples)


def _table_of_probabilities(probabilities: Tensor, spec: ModalitySpec, ids: Any) -> Any:
    pd = pandas()
    codes = range(spec.categories or 0)
    names = spec.category_names or [tuple(codes)] * spec.size
    pairs = [(column, i, code) for i, column in enumerate(spec.columns or ()) for code in range(len(names[i]))]
    values = torch.stack([probabilities[:, code, i] for _, i, code in pairs], dim=1).numpy()
    columns = pd.MultiIndex.from_tuples([(column, names[i][code]) for column, i, code in pairs])
    return pd.DataFrame(values, index=None if ids is None else index_of(ids), columns=columns)
