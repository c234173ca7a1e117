"""Mechanisms that hide modalities, to test models on data whose truth is known."""

from __future__ import annotations

import torch
from torch import Tensor

from mvcore import arguments
from mvcore.data.dataset import MultimodalDataset
from mvcore.errors import DataError


def mcar(data: MultimodalDataset, rate: float, *, seed: int) -> MultimodalDataset:
    """Hides each observed modality of each row with probability ``rate``, completely at random.

    Every row keeps at least one modality, and none is privileged: patterns that would leave a row with nothing are
    drawn again, so the pattern has the distribution of independent draws given that something is left.

    Args:
        data: The data set.
        rate: Probability in [0, 1).
        seed: Seed of the mask, apart from any of the model's.
    """
    seed = _checked(data, seed)
    if not 0 <= arguments.real("rate", rate) < 1:
        raise DataError(f"rate must be in [0, 1), got {rate!r}.")
    kept = kept_at_random(data.observed, rate, torch.Generator().manual_seed(seed))
    return data.hide(data.observed & ~kept)


def kept_at_random(observed: Tensor, rate: float, generator: torch.Generator | None = None) -> Tensor:
    """What is left of ``observed (n, M)`` when each modality is hidden with a probability, given that something is.

    Args:
        observed: Which row has which modality; a row that has none keeps none.
        rate: The probability, in [0, 1).
        generator: Source of the draws; torch's global one, where None.
    """
    kept = torch.zeros_like(observed)
    pending = observed.any(1).nonzero().squeeze(1)
    while len(pending):
        drawn = torch.rand(len(pending), observed.shape[1], generator=generator) >= rate
        kept[pending] = observed[pending] & drawn
        pending = pending[~kept[pending].any(1)]
    return kept


def kept_on_device(observed: Tensor, rate: float) -> Tensor:
    """What ``kept_at_random`` draws, from the same distribution, in as many operations whatever is drawn.

    A modality is kept with probability 1 − rate once another one is, and until then with (1 − rate) / (1 − rate^r), r
    being how many the row has from it on: that is its probability given that something is kept.
    """
    draws = torch.rand(observed.shape, dtype=torch.float64, device=observed.device)
    left = observed.flip(1).cumsum(1).flip(1).double()  # those from each on
    first = (1 - rate) / (1 - rate ** left.clamp(min=1))
    kept = torch.zeros_like(observed[:, 0])
    columns = []
    for have, draw, chance in zip(observed.unbind(1), draws.unbind(1), first.unbind(1), strict=True):
        columns.append(have & (draw < torch.where(kept, 1 - rate, chance)))
        kept = kept | columns[-1]
    return torch.stack(columns, 1)


def mar(data: MultimodalDataset, rate: float, *, strength: float = 2.0, seed: int) -> MultimodalDataset:
    """Hides modalities at random given what is kept (MAR): by the value of a modality that the row keeps.

    In each row one of its modalities, drawn uniformly, is the anchor, which is kept. Each other one is hidden,
    independently, with the probability σ(c + strength · s), where s is the summary of the anchor's value: the mean of
    its known features, each standardised, standardised over the rows again (of categories their codes). So the
    pattern depends on the value of the anchor, which is in it, and on nothing that it hides.

    The c of each anchor is such that the probabilities have the same mean over the rows of each: ``rate`` is the
    mean probability of an observed modality to be hidden, anchors included, and no modality is privileged.

    Args:
        data: The data set.
        rate: Mean share of the observed modalities to hide; at most what is left when every row keeps one.
        strength: Change of the log-odds with one standard deviation of the summary; greater values are hidden more
            often, and with a negative strength less often.
        seed: Seed of the mask, apart from any of the model's.

    Raises:
        DataError: If the rate is out of its range.
    """
    strength = arguments.real("strength", strength, finite=True)
    anchor, candidates, generator = _anchors(data, rate, seed)
    summary = _summaries(data).gather(1, anchor[:, None]).expand_as(candidates)
    return _hide(data, rate, strength * summary, anchor[:, None].expand_as(candidates), candidates, generator)


def mnar(data: MultimodalDataset, rate: float, *, strength: float = 2.0, seed: int) -> MultimodalDataset:
    """Hides modalities not at random (MNAR), each by its own value: self-masking.

    As ``mar``, but each modality other than the anchor is hidden with the probability σ(c + strength · s) of the
    summary s of its own value, and each modality has its own c, such that the probabilities have the same mean over
    the rows in which it is no anchor. Given its own value, whether a modality is hidden depends on no other's.

    Arguments and errors as for ``mar``.
    """
    strength = arguments.real("strength", strength, finite=True)
    _, candidates, generator = _anchors(data, rate, seed)
    own = torch.arange(len(data.schema)).expand_as(candidates)
    return _hide(data, rate, strength * _summaries(data), own, candidates, generator)


def _anchors(data: MultimodalDataset, rate: float, seed: int) -> tuple[Tensor, Tensor, torch.Generator]:
    """For each row the modality it keeps ``(n,)``, and the mask ``(n, M)`` of those that may be hidden."""
    generator = torch.Generator().manual_seed(_checked(data, seed))
    rate = arguments.real("rate", rate)
    anchor = torch.multinomial(data.observed.double(), 1, generator=generator).squeeze(1)
    candidates = data.observed.clone()
    candidates[torch.arange(len(data)), anchor] = False
    most = float(candidates.sum() / data.observed.sum())
    if not 0 <= rate < most:
        raise DataError(
            f"rate must be at least 0 and less than {most:.3g}, for every row keeps one modality; got {rate!r}."
        )
    return anchor, candidates, generator


def _checked(data: MultimodalDataset, seed: int) -> int:
    if not isinstance(data, MultimodalDataset):
        raise DataError(f"Expected a data set, whose modalities are hidden; got {type(data).__name__}.")
    return arguments.seed("seed", seed)


def _hide(
    data: MultimodalDataset, rate: float, slope: Tensor, group: Tensor, candidates: Tensor, generator: torch.Generator
) -> MultimodalDataset:
    """Hides candidates with the probability σ(c + slope), c the same in a group; all groups have the same mean."""
    mean = rate * float(data.observed.sum()) / max(1, int(candidates.sum()))
    probability = torch.zeros(candidates.shape, dtype=torch.float64)
    for g in range(len(data.schema)):
        members = candidates & (group == g)
        probability[members] = _calibrated(slope[members], mean)
    return data.hide(torch.rand(probability.shape, dtype=torch.float64, generator=generator) < probability)


def _calibrated(slope: Tensor, mean: float) -> Tensor:
    """σ(c + slope) with the c that gives it this mean, by bisection."""
    if mean == 0 or not len(slope):
        return torch.zeros_like(slope)
    reach = float(slope.abs().max()) + 40
    low, high = -reach, reach
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if float((middle + slope).sigmoid().mean()) < mean else (low, middle)
    return (low + slope).sigmoid()


def _summaries(data: MultimodalDataset) -> Tensor:
    """One number for each row and modality ``(n, M)`` in standard deviations; 0 where the row lacks it."""
    out = torch.zeros(data.observed.shape, dtype=torch.float64)
    for i, name in enumerate(data.schema.names):
        for x, cells in data.batch().stream(name):
            known = (torch.ones_like(x, dtype=torch.bool) if cells is None else cells).flatten(1)
            features = _standardised(x.double().flatten(1), known)
            value = (features.sum(1) / known.sum(1).clamp(min=1))[:, None]
            out[data.observed[:, i], i] = _standardised(value, torch.ones_like(value, dtype=torch.bool)).squeeze(1)
    return out


def _standardised(x: Tensor, known: Tensor) -> Tensor:
    """Columns with mean 0 and standard deviation 1 over what is known; 0 where unknown or constant."""
    n = known.sum(0).clamp(min=1)
    mean = x.where(known, 0).sum(0) / n
    centred = (x - mean).where(known, 0)
    scale = (centred.square().sum(0) / n).sqrt()
    # what differs by rounding alone is constant, whatever its magnitude: x is in float64, made of float32
    return centred / scale.where(scale > 2e-7 * mean.abs(), torch.inf)
