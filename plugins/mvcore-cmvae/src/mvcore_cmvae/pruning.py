"""Pruning by entropy: how many of the clusters a trained model needs, and the model that has these alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from attrs import evolve
from torch import Tensor

from mvcore.data import Rows
from mvcore.distributions import full
from mvcore.errors import ConfigError
from mvcore.inference import isolated
from mvcore.models import ComposedConfig, MultimodalVAE
from mvcore.plugins import Registry
from mvcore_cmvae import ClustersPriorConfig
from mvcore_cmvae.clustering import batches_of, prior_of

__all__ = ["Pruned", "prune"]


@final
@dataclass(frozen=True)
class Pruned:
    """A model with fewer clusters, and how their number was chosen."""

    model: MultimodalVAE
    """The smaller model: a config of its own, the weights of the given one. It trains on, saves and scores as any."""
    kept: tuple[int, ...]
    """The clusters of the given model that it has, in their order."""
    criterion: Mapping[int, float]
    """What was minimised, in nats, for each number of clusters tried."""


@final
@dataclass(frozen=True)
class _Pairs:
    """Every observation's place among the clusters."""

    log_joint: Tensor  # (N, C): log π_c + log p(μ_m | c)
    log_weights: Tensor  # (C,)
    rows: Tensor  # (N,), counted over rows that have something
    shares: Tensor  # (N,): 1 / |O| of the row


def prune(
    model: MultimodalVAE,
    data: Rows,
    *,
    clusters: int | None = None,
    beta: float | None = None,
    batch_size: int = 512,
) -> Pruned:
    r"""Drops the clusters that the rows do not need, those with the fewest rows first.

    For each number n of clusters left, down to 2, the mean over rows, and over what each row has, of

    .. math:: \beta\, \frac{H(q(c \mid \mu_m))}{\log n} - \frac{1}{D} \log p(\mu_m)

    is taken, with the remaining weights π normalised; the n with the least is kept, or the one asked for. The given
    model stays as it is.

    Args:
        model: A trained model whose prior is ``clusters``.
        data: Rows with any pattern of observed modalities, such as the training rows.
        clusters: How many to keep; as the criterion says, where None.
        beta: β; that of the model's loss where None, 1 if the loss has none.
        batch_size: Rows encoded at once.

    Raises:
        NotApplicableError: If the model's prior has no clusters.
        ConfigError: If there are fewer than two, or than are asked for, or the model has no config.
        DataError: If the data does not fit the model.
    """
    prior = prior_of(model)
    if not isinstance(model.config, ComposedConfig) or len(prior.loc) < 2:
        raise ConfigError(["prune needs a model built from a config, with two clusters or more"], "prune")
    if clusters is not None and not 2 <= clusters <= len(prior.loc):
        raise ConfigError([f"clusters: expected 2 to {len(prior.loc)}, those of the model, got {clusters!r}"], "prune")
    pairs = _pairs(model, data, batch_size)
    chosen = float(getattr(model.loss, "beta", 1.0)) if beta is None else beta
    kept, sets, criterion = list(range(len(prior.loc))), {}, {}
    while len(kept) >= 2:
        n = len(kept)
        sets[n], criterion[n] = tuple(kept), _criterion(pairs, kept, chosen, model.latent_dim)
        del kept[_least(pairs, kept)]
    best = clusters or min(criterion, key=lambda n: (criterion[n], n))
    return Pruned(_with(model, sets[best]), sets[best], criterion)


def _pairs(model: MultimodalVAE, data: Rows, batch_size: int) -> _Pairs:
    prior, joint, rows, shares, start = prior_of(model), [], [], [], 0
    with isolated(model, None):
        for batch in batches_of(model, data, batch_size):
            count = batch.observed.sum(1).to(batch.device)
            for m, encoded in model.encode_modalities(batch).experts.items():
                joint.append(prior.log_joint(full(encoded.loc)))
                rows.append(start + batch.rows(m))
                shares.append(1 / count[batch.rows(m)])
            start += len(batch)
        return _Pairs(torch.cat(joint), prior().log_weights[:, 0], torch.cat(rows), torch.cat(shares))


def _within(pairs: _Pairs, kept: list[int]) -> Tensor:
    """``log_joint`` among some clusters ``(N, n)``, their weights normalised."""
    return pairs.log_joint[:, kept] - pairs.log_weights[kept].logsumexp(0)


def _criterion(pairs: _Pairs, kept: list[int], beta: float, latent_dim: int) -> float:
    joint = _within(pairs, kept)
    log_q = joint.log_softmax(1)
    entropy = -(log_q.exp() * log_q).sum(1) / math.log(len(kept))
    values = beta * entropy - joint.logsumexp(1) / latent_dim
    return float((pairs.shares * values).sum() / pairs.shares.sum())  # the shares of a row sum to 1


def _least(pairs: _Pairs, kept: list[int]) -> int:
    """The cluster that the fewest rows fall into; of several such, the one that rows are least likely to be of."""
    q = _within(pairs, kept).softmax(1) * pairs.shares[:, None]
    of_rows = q.new_zeros(int(pairs.rows.max()) + 1, len(kept)).index_add(0, pairs.rows, q)
    masses = of_rows[of_rows.any(1)].argmax(1).bincount(minlength=len(kept)).tolist()
    return min(range(len(kept)), key=lambda c: (masses[c], float(q[:, c].sum())))


def _with(model: MultimodalVAE, kept: tuple[int, ...]) -> MultimodalVAE:
    """A model of its own with some clusters of another."""
    config = model.config
    assert isinstance(config, ComposedConfig)
    prior = config.prior
    assert isinstance(prior, ClustersPriorConfig)
    config = evolve(config, prior=evolve(prior, clusters=len(kept)))
    with torch.random.fork_rng(devices=[]):
        smaller: MultimodalVAE = Registry.installed().build(config, model.schema)
    weights = model.state_dict()
    own = {f"latent_prior.{name}" for name, _ in prior_of(model).named_parameters()}
    weights |= {name: weights[name][list(kept)] for name in own}
    smaller.to(next(model.parameters())).load_state_dict(weights)
    return smaller.train(model.training)
