"""Which components the rows of a padded batch have: all that a pattern may have, and, on the device, which do."""

from __future__ import annotations

import torch
from torch import Tensor

from mvcore.data.padded import PaddedBatch
from mvcore.posteriors.specs import PriorExpert, Subsets


def padded_components(
    batch: PaddedBatch, members: Tensor, subsets: Tensor, kind: Subsets, prior_expert: PriorExpert, modalities: int
) -> tuple[Tensor, Tensor]:
    """Members of each component ``(C, E)``, on the host, and the rows ``(C, B)`` that have it, on the device.

    Args:
        batch: The rows.
        members: Members of each subset of the batch's modalities ``(C, M)``.
        subsets: The same with the prior's parts last ``(C, M + P)``.
        kind: Which subsets these are.
        prior_expert: Which of them have the prior.
        modalities: The number of the model's modalities.
    """
    if kind == "observed" and prior_expert == "full" and len(batch.names) == modalities and not batch.complete:
        subsets = torch.cat([members.expand(2, -1), torch.tensor([[0.0], [1.0]])], 1)
        exists = torch.stack([batch.observed.any(1) & ~batch.observed.all(1), batch.observed.all(1)])
    else:
        exists = _exists(batch, members, kind, prior_expert)
    if not batch.nothing or (kind == "observed" and prior_expert == "every"):
        return subsets, exists
    priors = subsets.shape[1] - len(batch.names)
    empty = ~batch.observed.any(1, keepdim=True).T
    return torch.cat([subsets, torch.eye(subsets.shape[1])[-priors:]]), torch.cat([exists, empty.expand(priors, -1)])


def on_device(batch: PaddedBatch, values: Tensor, like: Tensor) -> Tensor:
    """What does not change from batch to batch, on the device, in the dtype of another tensor."""
    key = values.shape, like.dtype, values.numpy().tobytes()
    return batch.constant(key, lambda: values.to(like.dtype))


def _exists(batch: PaddedBatch, members: Tensor, kind: Subsets, prior_expert: PriorExpert) -> Tensor:
    everywhere = prior_expert == "every" or not batch.nothing if kind == "observed" else batch.complete
    if everywhere and batch.names:
        shape = len(members), len(batch)
        return batch.constant(("exists", shape), lambda: torch.ones(shape, dtype=torch.bool))
    have = batch.observed.T
    if kind == "observed":
        return have.any(0, keepdim=True)
    if kind == "each":
        return have.contiguous()  # draws depend on the layout
    lacking = (~have).float()
    return on_device(batch, members, lacking) @ lacking == 0
