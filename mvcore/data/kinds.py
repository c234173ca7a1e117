"""What an array holds where nobody says so: the one place that guesses, and where it would have to guess asks."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from mvcore.errors import DataError

#: Integers are taken for categories if there are so many at most, and so many probabilities of an observation at most.
MOST_CATEGORIES, MOST_PROBABILITIES = 32, 256


def default_likelihood(name: str, x: Tensor, rows: Tensor | None = None) -> str:
    """The likelihood of values ``(n, *shape)``: normal for floats, bernoulli for bools, categorical for few integers.

    Args:
        name: The modality.
        x: Its values.
        rows: Which rows are observed ``(n,)``, bool; all, where None.

    Raises:
        DataError: For integers that may as well be pixels, counts or numbers: more than 32 different ones, counted from
            0, or more than 256 probabilities for an observation, the number of its values times that of the categories.
    """
    if x.is_floating_point():
        return "normal"
    if x.dtype == torch.bool:
        return "bernoulli"
    seen = x if rows is None or len(rows) != len(x) else x[rows]
    high = int(seen.max()) if seen.numel() else 0
    if high < MOST_CATEGORIES and (high + 1) * prod(x.shape[1:]) <= MOST_PROBABILITIES:
        return "categorical"
    raise DataError(
        f"Modality {name!r} holds integers up to {high} in observations of shape {tuple(x.shape[1:])}, which may be "
        f"numbers, counts or categories. Say which: likelihoods={{{name!r}: 'normal'}} for numbers such as pixels, "
        "'poisson' or 'negative_binomial' for counts, 'categorical' for categories, 'bernoulli' for 0 and 1.",
        modality=name,
    )
