"""The weighted product of experts, over any set of subsets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor, nn

from mvcore.data import ModalitySpec
from mvcore.distributions import Diagonal, DiagonalNormal, ScaleMap
from mvcore.errors import ConfigError
from mvcore.posteriors import JointPosterior, Subsets
from mvcore.validators import check_choice
from mvcore_gpoe import Powers, WeightedProductConfig


class _Logits(nn.Module):
    """Logarithms of a modality's powers before they are normalised, one a latent dimension."""

    values: Tensor

    def __init__(self, latent_dim: int, trained: bool) -> None:
        super().__init__()
        if trained:
            self.values = nn.Parameter(torch.zeros(latent_dim))
        else:
            self.register_buffer("values", torch.zeros(latent_dim))


@final
class WeightedProduct(JointPosterior):
    r"""Fuses each subset by :math:`q_S(z) \propto p(z)^{[\text{free}]} \prod_{m \in S} q_m(z)^{a_{md}}`.

    The powers of a modality are one a dimension. ``softmax`` normalises them over the members that a product has in a
    row: :math:`a_{md} = e^{l_{md}} / \sum_{n \in S} e^{l_{nd}}`; ``free`` ones are :math:`e^{l_{md}}`.

    Args:
        modalities: Names of the model's modalities.
        latent_dim: Dimensions D of the shared latent.
        subsets: Which subsets are components.
        powers: ``softmax`` or ``free``; of the second the prior is an expert, of power 1.
        scale: The map from an encoder's ``log_scale`` to a scale.

    References:
        | Generalized Product of Experts for Automatic and Principled Fusion (Cao & Fleet, 2014)
        | https://arxiv.org/abs/1410.7827
    """

    def __init__(
        self,
        modalities: Sequence[str],
        latent_dim: int,
        *,
        subsets: Subsets = "observed",
        powers: Powers = "softmax",
        scale: ScaleMap = "exp",
    ) -> None:
        check_choice("powers", powers, Powers)
        if (subsets, powers) == ("each", "softmax"):
            raise ConfigError(
                ["subsets='each' leaves nothing to weigh: the power of a single expert is 1; set powers='free'"],
                "posterior",
            )
        super().__init__(modalities, subsets=subsets, prior_expert="every" if powers == "free" else "none", scale=scale)
        self.normalised = powers == "softmax"
        trained = not self.normalised or len(self.modalities) > 1  # of one expert alone the power is 1
        self.logits = nn.ModuleDict({m: _Logits(latent_dim, trained) for m in self.modalities})

    def powers(self, names: Sequence[str]) -> Tensor:
        """The powers ``(M, D)`` of the experts of some modalities in the product of them all."""
        logits = self._logits(names, len(names))
        return logits.softmax(0) if self.normalised else logits.exp()

    def fuse(self, experts: Diagonal, S: Tensor) -> Diagonal:
        """The products of each subset of all the model's modalities."""
        return self.fuse_named(experts, S, self.modalities)

    def fuse_named(self, experts: Diagonal, S: Tensor, names: Sequence[str]) -> Diagonal:
        """The products of each subset; an absent expert has precision 0."""
        logits = self._logits(names, len(experts.loc)).to(experts.loc)
        powers = self._shares(experts, S, logits) if self.normalised else S[:, :, None, None] * logits.exp()[:, None]
        precision = torch.exp(-2 * experts.log_scale)
        return DiagonalNormal.natural(_summed(powers, precision), _summed(powers, precision * experts.loc))

    def _shares(self, experts: Diagonal, S: Tensor, logits: Tensor) -> Tensor:
        """Softmax over the members that a row has: ``(C, E, B or 1, D)``, 0 for all others."""
        member = (S > 0)[:, :, None, None]
        if self.subsets == "observed" or len(S) == 1:
            # else a component exists only in rows that have all its members: one softmax serves them all
            member = member & experts.log_scale.isfinite()
        lowest = torch.finfo(logits.dtype).min  # not -inf, whose softmax over no member at all is NaN
        return logits[:, None].where(member, lowest).softmax(1).where(member, 0)

    def _logits(self, names: Sequence[str], size: int) -> Tensor:
        """Those of the experts ``(E, D)``; the prior's, which may follow the modalities', are 0."""
        own = [self._of(m) for m in names]
        like = self._of(self.modalities[0])
        rest = like.new_zeros(size - len(own), len(like))
        return torch.cat([torch.stack(own), rest]) if own else rest

    def _of(self, name: str) -> Tensor:
        part = self.logits[name]
        assert isinstance(part, _Logits)
        return part.values


def _summed(powers: Tensor, values: Tensor) -> Tensor:
    """Sum over the experts of powers ``(C, E, B or 1, D)`` times values ``(E, B, D)``: ``(C, B, D)``."""
    if powers.shape[2] == 1:  # of 1,023 subsets no copy for each row
        return torch.einsum("ced,ebd->cbd", powers[:, :, 0], values)
    return (powers * values).sum(1)


def build(
    config: WeightedProductConfig,
    *,
    modalities: Sequence[ModalitySpec],
    latent_dim: int,
    private_dims: Mapping[str, int],
) -> WeightedProduct:
    """A weighted product of experts."""
    return WeightedProduct(
        [m.name for m in modalities], latent_dim, subsets=config.subsets, powers=config.powers, scale=config.scale
    )
