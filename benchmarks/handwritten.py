"""MoPoE's training step as one would write it by hand for a single script: the yardstick for a framework's overhead.

Plain torch, no options beyond those that change the objective. What makes it fast: networks see observed rows only, one
matrix product fuses all subsets, the KL divergence and the likelihood are formulas, Adam is fused.

With ``O`` the observed modalities of a row and ``P`` its subsets, the loss is the mean over the rows of
``-Σ_{m∈O} log N(x_m; decoder_m(z), 1) + β (1/|P|) Σ_{S∈P} KL(q_S ‖ N(0, I))``, with ``z`` from a component of the
row that is drawn at random.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import chain, combinations
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.networks import Networks, make_networks
from benchmarks.settings import LEARNING_RATE, Rows, Setting

_LOG_NORMALIZER = 0.5 * math.log(2 * math.pi)


def subsets(modalities: int) -> Tensor:
    """All non-empty subsets as rows of zeros and ones (C, M), by size."""
    members = chain.from_iterable(combinations(range(modalities), n) for n in range(1, modalities + 1))
    return torch.stack([torch.zeros(modalities).index_fill(0, torch.tensor(s), 1.0) for s in members])


class Loss(NamedTuple):
    """The loss, a mean over the rows, and its KL part without β."""

    loss: Tensor
    kl: Tensor


class HandwrittenMoPoE:
    """MoPoE over given networks, with a fused Adam.

    Args:
        setting: The sizes.
        networks: What to train; made from ``setting`` where not given.
        beta: The weight of the KL term.
        prior_expert: ``"full"`` puts the prior into the component of all modalities (the official code and multivae),
            ``"none"`` into no component.
    """

    def __init__(
        self,
        setting: Setting,
        *,
        networks: Networks | None = None,
        beta: float = 1.0,
        prior_expert: Literal["none", "full"] = "full",
    ) -> None:
        networks = make_networks(setting) if networks is None else networks
        self.encoders, self.decoders = networks.encoders, networks.decoders
        self.beta, self.latent_dim = beta, setting.latent_dim
        self.S = subsets(setting.modalities)
        self.prior = torch.zeros(len(self.S), 1)
        self.prior[-1] = float(prior_expert == "full")
        self.optimizer = torch.optim.Adam(networks.parameters(), lr=LEARNING_RATE, fused=True)

    def to(self, device: torch.device) -> HandwrittenMoPoE:
        """Moves networks and constants, before the first step."""
        for module in (*self.encoders.values(), *self.decoders.values()):
            module.to(device)
        self.S, self.prior = self.S.to(device), self.prior.to(device)
        return self

    def complete_loss(self, x: dict[str, Tensor]) -> Loss:
        """The loss of rows that have all modalities: ``x[m]`` (B, *shape)."""
        M, B, D = len(x), len(next(iter(x.values()))), self.latent_dim
        encoded = torch.cat([self.encoders[m].network(v) for m, v in x.items()]).view(M, B, 2 * D)
        precision = (-2.0 * encoded[..., D:]).exp()
        natural = precision * encoded[..., :D]
        kl = _kl(*self._fuse(precision, natural)).sum() / (len(self.S) * B)
        z = self._draw(precision, natural, torch.randint(len(self.S), (B,), device=self.S.device))
        nll = torch.stack([_nll(self.decoders[m](z), v) for m, v in x.items()]).sum() / B
        return Loss(nll + self.beta * kl, kl)

    def partial_loss(self, x: dict[str, Tensor], rows: dict[str, Tensor], observed: Tensor) -> Loss:
        """The loss of packed rows: ``x[m]`` (n_m, *shape) at ``rows[m]`` (n_m,), with ``observed`` (B, M)."""
        B = len(observed)
        precision, natural = self._scattered(x, rows, observed)
        exists = self.S @ (~observed).T.float() == 0
        weight = exists / exists.sum(0)
        component, row = exists.nonzero(as_tuple=True)
        P, eta = self._fuse(precision, natural)
        kl = _kl(P[component, row], eta[component, row]).sum(-1) @ weight[component, row] / B
        z = self._draw(precision, natural, torch.multinomial(weight.T, 1).squeeze(1))
        nll = torch.stack([_nll(self.decoders[m](z[rows[m]]), v) for m, v in x.items()]).sum() / B
        return Loss(nll + self.beta * kl, kl)

    def padded_loss(self, x: dict[str, Tensor], observed: Tensor) -> Loss:
        """The loss of rows ``x[m]`` (B, *shape), finite where absent, ``observed`` (B, M): of one shape for all."""
        B, D = len(observed), self.latent_dim
        have = observed.T[..., None]
        encoded = torch.stack([self.encoders[m].network(v) for m, v in x.items()])
        precision = (-2.0 * encoded[..., D:]).exp() * have
        natural = precision * encoded[..., :D]
        exists = self.S @ (~observed).T.float() == 0
        weight = exists / exists.sum(0)
        P, eta = self._fuse(precision, natural)
        kl = (_kl(P.where(exists[..., None], 1.0), eta).sum(-1) * weight).sum() / B
        z = self._draw(precision, natural, torch.multinomial(weight.T, 1).squeeze(1))
        errors = torch.stack([(self.decoders[m](z) - v).square().flatten(1).sum(1) for m, v in x.items()])
        size = next(iter(x.values()))[0].numel()
        nll = ((0.5 * errors.T + _LOG_NORMALIZER * size) * observed).sum() / B
        return Loss(nll + self.beta * kl, kl)

    def loss(self, rows: Rows) -> Loss:
        """The loss of a batch, complete or not."""
        return self._loss_of(rows)()

    def training_step(self, rows: Rows) -> Callable[[], None]:
        """One step on one batch: forward, ``zero_grad``, backward, Adam. Rows are packed before, as by a loader."""
        loss = self._loss_of(rows)

        def step() -> None:
            value = loss().loss
            self.optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(value)
            self.optimizer.step()

        return step

    def _loss_of(self, rows: Rows) -> Callable[[], Loss]:
        if rows.complete:
            return partial(self.complete_loss, rows.x)
        x, index = rows.packed()
        return partial(self.partial_loss, x, index, rows.observed)

    def _scattered(self, x: dict[str, Tensor], rows: dict[str, Tensor], observed: Tensor) -> tuple[Tensor, Tensor]:
        """Precisions and precision-weighted means (M, B, D), 0 where a row lacks the modality."""
        (B, M), D = observed.shape, self.latent_dim
        encoded = torch.cat([self.encoders[m].network(v) for m, v in x.items()])
        precision = (-2.0 * encoded[:, D:]).exp()
        packed = torch.cat([precision, precision * encoded[:, :D]], dim=1)
        cells = torch.cat([rows[m] + i * B for i, m in enumerate(x)])
        dense = packed.new_zeros(M * B, 2 * D).index_copy(0, cells, packed).view(M, B, 2 * D)
        return dense[..., :D], dense[..., D:]

    def _fuse(self, precision: Tensor, natural: Tensor) -> tuple[Tensor, Tensor]:
        M, B, D = precision.shape
        P = torch.addmm(self.prior, self.S, precision.reshape(M, B * D)).view(-1, B, D)
        return P, (self.S @ natural.reshape(M, B * D)).view(-1, B, D)

    def _draw(self, precision: Tensor, natural: Tensor, chosen: Tensor) -> Tensor:
        """Draws from one component of each row, fused anew: cheaper than the gradient of an index into all."""
        members = self.S[chosen].T.unsqueeze(-1)
        variance = ((precision * members).sum(0) + self.prior[chosen]).reciprocal()
        loc = (natural * members).sum(0) * variance
        return torch.addcmul(loc, variance.sqrt(), torch.randn_like(loc))


def _kl(P: Tensor, eta: Tensor) -> Tensor:
    """KL divergence from N(0, I) for each dimension, from precisions and precision-weighted means."""
    variance = P.reciprocal()
    return 0.5 * ((eta * variance).square() + variance - 1.0 + P.log())


def _nll(mean: Tensor, x: Tensor) -> Tensor:
    """Minus the log-density of a normal of scale 1, summed over everything."""
    return 0.5 * F.mse_loss(mean, x, reduction="sum") + _LOG_NORMALIZER * x.numel()
