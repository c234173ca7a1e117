"""A joint posterior is a fusion rule and a set of subsets of modalities; authors write the rule alone."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import final

import torch
from torch import Tensor, nn

from mvcore.data.batch import Batch
from mvcore.data.padded import PaddedBatch
from mvcore.distributions.diagonal import FAMILIES, Diagonal, full
from mvcore.distributions.encoded import Encoded
from mvcore.distributions.mixture import Mixture, share_equally
from mvcore.distributions.names import Family, ScaleMap
from mvcore.errors import ConfigError
from mvcore.posteriors.padded import on_device, padded_components
from mvcore.posteriors.specs import PriorExpert, Subsets
from mvcore.validators import check_choice

#: Most components of a posterior, the subsets of 16 modalities.
COMPONENTS = 2**16 - 1

#: Bytes that a training step takes for each pair of a row and a component, whatever the dimensions: weights and masks.
PAIR = 64


#: Most values of a posterior's locations that are held at once: of more, parts are fused where they are needed.
HELD = 2**22


class JointPosterior(nn.Module, ABC):
    r"""Base of the joint posteriors :math:`q(z \mid x_O) = \sum_S \pi_S\, q_S(z)` with equal :math:`\pi_S`.

    A row has the components all of whose members it has (``each``, ``all``), or the one of what it has
    (``observed``). A row that has nothing, as a view may leave it, gets the prior, each of whose components is then one
    of the row's. ``fuse`` is all that a rule writes; one with parameters of its modalities writes ``fuse_named`` too.

    Args:
        modalities: Names of the model's modalities.
        subsets: Which subsets are components: ``observed`` is what the row has, ``each`` every single modality,
            ``all`` every non-empty subset.
        prior_expert: Which components have the prior as one more expert: ``none``, ``every``, or ``full``, the
            component of all the model's modalities alone.
        family: The family of the experts.
        scale: The map from an encoder's ``log_scale`` to a scale: ``exp``, or ``softmax``: D · softmax, the scales
            of Shi et al. (2019), whose mean over the dimensions is 1.

    Raises:
        ConfigError: If ``all`` subsets are more than ``COMPONENTS``.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        *,
        subsets: Subsets = "observed",
        prior_expert: PriorExpert = "none",
        family: Family = "normal",
        scale: ScaleMap = "exp",
    ) -> None:
        super().__init__()
        for name, value, choices in (("subsets", subsets, Subsets), ("prior_expert", prior_expert, PriorExpert),
                                     ("family", family, Family), ("scale", scale, ScaleMap)):  # fmt: skip
            check_choice(name, value, choices)
        self.modalities = tuple(modalities)
        _check_components(len(self.modalities), subsets)
        self.subsets, self.prior_expert, self.family, self.scale = subsets, prior_expert, FAMILIES[family], scale

    @abstractmethod
    def fuse(self, experts: Diagonal, S: Tensor) -> Diagonal:
        """Fuses the experts of each subset.

        A rule must leave a single expert as it is: where every component has one member, it is not called.

        Args:
            experts: One expert for each modality and row ``(E, B, D)``. An absent one has an infinite scale and
                location 0: it must add nothing. The prior, where it is an expert, comes last.
            S: Members of each subset ``(C, E)``, 0 or 1, in the experts' dtype.

        Returns:
            The fused experts ``(C, B, D)``; where none is present, any finite values.
        """

    def fuse_named(self, experts: Diagonal, S: Tensor, names: Sequence[str]) -> Diagonal:
        """``fuse``, told whose experts they are: those of the modalities ``names``, and of the prior where one follows.

        A rule with parameters of its modalities overrides this; ``fuse`` is then for all the model's modalities.
        """
        return self.fuse(experts, S)

    def forward(self, encoded: Mapping[str, Encoded], batch: Batch, prior: Mixture) -> Mixture:
        """The posterior of each row of a batch, or view, from the encoded observations of its modalities.

        Args:
            encoded: What each modality's encoder made of the rows that have it.
            batch: The rows.
            prior: The prior of the shared latent, a mixture of one row.

        Raises:
            ConfigError: If a prior of several components is to be an expert.
        """
        if self.prior_expert != "none" and prior.shape[0] > 1:
            raise ConfigError(
                [f"a prior of {prior.shape[0]} components can't be an expert of a product; set prior_expert='none', "
                 f"got {self.prior_expert!r}"], "posterior",
            )  # fmt: skip
        # sums of precisions in half precision would be another posterior
        with torch.autocast(batch.device.type, enabled=False):
            return self._mixture(encoded, batch, prior)

    def _mixture(self, encoded: Mapping[str, Encoded], batch: Batch, prior: Mixture) -> Mixture:
        count, names = prior.shape[0], batch.names
        padded = batch if isinstance(batch, PaddedBatch) else None
        subsets, exists = self._components(batch, count)
        uses_prior = bool(subsets[:, len(names) :].any())
        with_prior = uses_prior or not names
        subsets = subsets if with_prior else subsets[:, : len(names)]
        single = torch.equal(subsets, torch.eye(subsets.shape[1]))
        experts = self._experts(encoded, batch, 0.0 if single else torch.inf)
        if with_prior:
            experts = _append(experts, prior.components, len(batch))
        weights = share_equally(exists, experts.loc) if padded is None else _shared(padded, exists, experts.loc)
        if uses_prior and count > 1:  # in a row with nothing the prior's components have the prior's weights
            weights = torch.cat([weights[:-count], weights[-count:] * count * prior.weights])
        dense = padded is not None
        if single:
            return Mixture(experts, weights, exists, dense=dense)
        S = subsets.to(experts.loc, non_blocking=True) if padded is None else on_device(padded, subsets, experts.loc)
        fuse = partial(self._fuse_some, experts, S, names)
        held = len(S) * experts.loc[0].numel() <= HELD
        pick = partial(self._fuse_pairs, experts, S, names)
        return Mixture(fuse(slice(None)) if held else fuse, weights, exists, pick, dense=dense)

    def _fuse_some(self, experts: Diagonal, S: Tensor, names: Sequence[str], which: slice) -> Diagonal:
        """Fuses some of the subsets; asked for whenever a part of them is needed, also inside a region of autocast."""
        with torch.autocast(S.device.type, enabled=False):
            return self.fuse_named(experts, S[which], names)

    @final
    def to_family(self, loc: Tensor, log_scale: Tensor) -> Diagonal:
        """The distribution with an encoder's parameters, ``log_scale`` mapped as the posterior says."""
        loc, log_scale = full(loc), full(log_scale)
        if self.scale == "softmax":
            log_scale = log_scale.log_softmax(-1) + math.log(log_scale.shape[-1])
        return self.family(loc, log_scale)

    def _fuse_pairs(
        self, experts: Diagonal, S: Tensor, names: Sequence[str], component: Tensor, rows: Tensor | None
    ) -> Diagonal:
        """Fuses again for some pairs ``(N,)`` alone: each is a row in which only the subset's members are present."""
        member = S.index_select(0, component).T[..., None] > 0
        chosen = experts if rows is None else experts[:, rows]
        present = type(experts)(chosen.loc.where(member, 0), chosen.log_scale.where(member, torch.inf))
        with torch.autocast(S.device.type, enabled=False):
            return self.fuse_named(present, S.new_ones(1, len(member)), names)[0]

    def _components(self, batch: Batch, priors: int = 1) -> tuple[Tensor, Tensor]:
        """Members of each subset ``(C, M + P)``, the prior's P parts last, and the rows ``(C, B)`` that have it."""
        members = _subsets(len(batch.names), self.subsets)
        if isinstance(batch, PaddedBatch):
            subsets = torch.cat([members, self._with_prior(members)[:, None].expand(-1, priors)], 1)
            return padded_components(batch, members, subsets, self.subsets, self.prior_expert, len(self.modalities))
        have = batch.observed.to(members)
        empty = have.sum(1) == 0
        if self.subsets == "observed":
            exists = ~empty[None] | (self.prior_expert == "every")
        else:
            exists = (members @ have.T) == members.sum(1, keepdim=True)
        subsets = torch.cat([members, self._with_prior(members)[:, None].expand(-1, priors)], 1)
        if self.subsets == "observed" and self.prior_expert == "full":  # complete rows have the prior, others not
            complete = have.sum(1) == len(self.modalities)
            with_prior = torch.stack([~complete, complete])
            used = with_prior.any(1) if len(complete) else torch.tensor([True, False])
            subsets = torch.cat([members.expand(2, -1), torch.tensor([[0.0], [1.0]])], 1)[used]
            exists = (exists & with_prior)[used]
        if not bool(exists.any(0).all()):  # a view left rows with nothing: they get a component that is the prior
            alone = torch.eye(subsets.shape[1])[-priors:]
            return torch.cat([subsets, alone]), torch.cat([exists, empty.expand(priors, -1)])
        return subsets, exists

    def _with_prior(self, members: Tensor) -> Tensor:
        if self.prior_expert == "full":
            return (members.sum(1) == len(self.modalities)).to(members)
        return members.new_full((len(members),), float(self.prior_expert == "every"))

    def _experts(self, encoded: Mapping[str, Encoded], batch: Batch, absent: float) -> Diagonal:
        if batch.names and (isinstance(batch, PaddedBatch) or batch.complete):  # the map once for all of them
            return self._stacked([encoded[m] for m in batch.names], batch, absent)
        each = [self.to_family(encoded[m].loc, encoded[m].log_scale) for m in batch.names]
        if not each:
            return self.family(torch.empty(0, len(batch), 1), torch.empty(0, len(batch), 1))
        return self.family(batch.dense([e.loc for e in each], 0.0), batch.dense([e.log_scale for e in each], absent))

    def _stacked(self, encoded: Sequence[Encoded], batch: Batch, absent: float) -> Diagonal:
        """The experts of modalities that have a value for every row, be it padding."""
        loc, log_scale = (
            torch.stack(list(parts)) for parts in zip(*((e.loc, e.log_scale) for e in encoded), strict=True)
        )
        experts = self.to_family(loc, log_scale)
        if batch.complete:
            return experts
        have = batch.observed.T[..., None]
        return self.family(
            experts.loc * have, experts.log_scale.where(have, absent)
        )  # what is made of padding is finite


def _check_components(modalities: int, subsets: Subsets) -> None:
    components = 2**modalities - 1 if subsets == "all" else 1
    if components > COMPONENTS:
        size = 128 * PAIR * components
        raise ConfigError(
            [
                f"subsets='all' of {modalities} modalities are {components:,} components, at most {COMPONENTS:,} are "
                f"allowed: their weights alone, for a batch of 128 rows, take {size:,} bytes in a step. Take "
                "subsets='each' or 'observed', or join modalities"
            ],
            "posterior",
        )


def _shared(batch: PaddedBatch, exists: Tensor, like: Tensor) -> Tensor:
    """Equal weights; a constant where every row has every component."""
    if len(exists) == 1:
        return batch.constant(("weights", like.dtype), lambda: torch.ones(exists.shape, dtype=like.dtype))
    return share_equally(exists, like)


@lru_cache(maxsize=64)
def _subsets(size: int, kind: Subsets) -> Tensor:
    """Members of each subset of ``size`` modalities ``(C, size)``, 0 or 1."""
    if kind == "observed":
        return torch.ones(1, size)
    if kind == "each":
        return torch.eye(size)
    codes = torch.arange(1, 2**size)
    return ((codes[:, None] >> torch.arange(size)) & 1).float()


def _append(experts: Diagonal, prior: Diagonal, size: int) -> Diagonal:
    """Adds each component of the prior ``(P, 1, D)`` as one more expert."""
    loc = prior.loc.expand(-1, size, -1)
    log_scale = prior.log_scale.expand(-1, size, -1)
    if not len(experts.loc):
        return type(prior)(loc, log_scale)
    return type(experts)(torch.cat([experts.loc, loc]), torch.cat([experts.log_scale, log_scale]))
