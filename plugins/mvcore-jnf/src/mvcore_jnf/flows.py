"""Conditional normalizing flows: the posterior of one modality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, final

import torch
import zuko
from torch import Tensor, nn

from mvcore.distributions.diagonal import DiagonalNormal, full
from mvcore.posteriors.base import Encoded


@final
class ConditionalFlow(nn.Module):
    r"""The posterior :math:`q_m(z \mid x_m)`: :math:`z = \mu + \sigma u`, where :math:`f(u; \mu, \log\sigma)` is normal.

    The map f starts as the identity, so the posterior starts as the encoder's normal. Its density takes one pass
    through each transform, which is what Hamiltonian Monte Carlo and the training on complete rows ask for.

    Args:
        latent_dim: Dimensions D of the latent.
        kind: ``autoregressive`` (D passes for a draw) or ``coupling`` (2).
        transforms: Number of transforms.
        hidden: Widths of the hidden layers of each.

    References:
        | Masked Autoregressive Flow for Density Estimation (Papamakarios et al., 2017)
        | https://arxiv.org/abs/1705.07057
    """

    def __init__(
        self,
        latent_dim: int,
        *,
        kind: Literal["autoregressive", "coupling"] = "autoregressive",
        transforms: int = 2,
        hidden: Sequence[int] = (128, 128, 128),
    ) -> None:
        super().__init__()
        passes = latent_dim if kind == "autoregressive" else 2
        flow = zuko.flows.MAF(
            latent_dim, 2 * latent_dim, transforms=transforms, passes=passes, hidden_features=tuple(hidden)
        )
        self.transform = flow.transform
        for part in self.transform.transforms:
            nn.init.zeros_(part.hyper[-1].weight)
            nn.init.zeros_(part.hyper[-1].bias)

    def forward(self, encoded: Encoded) -> FlowDensity:
        """The posteriors of n observations."""
        return FlowDensity(self.transform, DiagonalNormal(full(encoded.loc), full(encoded.log_scale)))


@final
@dataclass(frozen=True)
class FlowDensity:
    """The posteriors of n rows; as a distribution, of batch shape ``(n)`` over latents ``(D,)``.

    Args:
        transform: The flow's map, given a context.
        base: The encoder's normals ``(n, D)``, which locate and scale the flow and are its context.
    """

    transform: nn.Module
    base: DiagonalNormal

    def __len__(self) -> int:
        return len(self.base.loc)

    @cached_property
    def _map(self) -> Any:
        return self.transform(torch.cat([self.base.loc, self.base.log_scale], -1))

    @property
    def _unit(self) -> DiagonalNormal:
        return DiagonalNormal.unit(*self.base.loc.shape, like=self.base.loc)

    def take(self, index: Tensor) -> FlowDensity:
        """The posteriors of some rows."""
        return FlowDensity(self.transform, self.base.take(index))

    def detach(self) -> FlowDensity:
        """The same posteriors, their encoder cut from the graph."""
        return FlowDensity(self.transform, self.base.detach())

    def rsample(self, K: int) -> Tensor:
        """K reparametrised draws ``(K, n, D)``."""
        return self.rsample_and_log_prob(K)[0]

    def rsample_and_log_prob(self, K: int) -> tuple[Tensor, Tensor]:
        """K reparametrised draws ``(K, n, D)`` and their log-densities in nats ``(K, n)``."""
        if not len(self):
            z = self.base.rsample(K)
            return z, self._nothing(z)
        with torch.autocast(self.base.loc.device.type, enabled=False):
            noise = self._unit.rsample(K)
            u, log_det = self._map.inv.call_and_ladj(noise)
            z = torch.addcmul(self.base.loc, self.base.scale, u)
            return z, self._unit.log_prob(noise) - log_det - self.base.log_scale.sum(-1)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density in nats ``(K, n)`` of ``z (K, n, D)``."""
        if not len(self):
            return self._nothing(z)
        with torch.autocast(z.device.type, enabled=False):
            noise, log_det = self._map.call_and_ladj((z - self.base.loc) / self.base.scale)
            return self._unit.log_prob(noise) + log_det - self.base.log_scale.sum(-1)

    def _nothing(self, z: Tensor) -> Tensor:
        """The log-densities ``(K, 0)`` of no rows, with every parameter in their graph.

        zuko sums no log-determinants of 0 rows, so one row of zeros stands in and is cut off.
        """
        zeros = z.new_zeros(1, z.shape[-1])
        stand_in = FlowDensity(self.transform, DiagonalNormal(zeros, zeros)).log_prob(zeros[None])
        return self.base.log_prob(z) + stand_in[:, :0]
