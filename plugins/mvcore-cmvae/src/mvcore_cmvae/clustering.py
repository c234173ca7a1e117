"""The clusters of partial rows, for every composed model whose prior is ``clusters``."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from mvcore.data import Batch, Rows, aligned, batches
from mvcore.distributions import full
from mvcore.errors import NotApplicableError
from mvcore.inference import Encodings, isolated
from mvcore.models import Model
from mvcore_cmvae.prior import ClustersPrior

__all__ = ["clusters", "of_encodings", "probabilities"]


def clusters(model: Model, data: Rows | Batch, *, batch_size: int = 512) -> Tensor:
    """The most probable cluster of each row ``(B,)``, by ``probabilities``."""
    return probabilities(model, data, batch_size=batch_size).argmax(1)


def probabilities(model: Model, data: Rows | Batch, *, batch_size: int = 512) -> Tensor:
    r"""The probability of each cluster given what a row has ``(B, C)``, on the model's device.

    The mean over the row's modalities of :math:`q(c \mid \mu_m) \propto \pi_c\, p(\mu_m \mid c)`, with μ_m the location
    of the expert: no draws. A row with nothing has the prior's weights.

    Raises:
        NotApplicableError: If the model's prior has no clusters.
        DataError: If the data does not fit the model.
    """
    prior_of(model)
    with isolated(model, None):
        return torch.cat([of_encodings(model, model.encode_modalities(b)) for b in batches_of(model, data, batch_size)])


def of_encodings(model: Model, encodings: Encodings) -> Tensor:
    """``probabilities`` of rows that are encoded; its ``argmax(1)`` is what the metric ``clustering`` may be given."""
    prior, batch = prior_of(model), encodings.batch
    weights = prior().weights[:, 0]
    total: Tensor = weights.new_zeros(len(batch), len(weights))
    for m, encoded in encodings.experts.items():
        total = total.index_add(0, batch.rows(m), prior.log_joint(full(encoded.loc)).softmax(1).to(total))
    count = batch.observed.sum(1).to(total)[:, None]
    return (total / count.clamp(min=1)).where(count > 0, weights)


def prior_of(model: Model) -> ClustersPrior:
    """The model's prior of clusters.

    Raises:
        NotApplicableError: If it has none.
    """
    prior = getattr(model, "latent_prior", None)
    if not isinstance(prior, ClustersPrior):
        raise NotApplicableError(
            f"The prior of this model is {type(prior).__name__}, which has no clusters; build the model with "
            "prior={'use': 'clusters'}."
        )
    return prior


def batches_of(model: Model, data: Rows | Batch, batch_size: int) -> Iterator[Batch]:
    """The rows as the model has them."""
    parts = [data] if isinstance(data, Batch) else batches(aligned(data, model.schema), batch_size)
    yield from map(model.fitting, parts)
