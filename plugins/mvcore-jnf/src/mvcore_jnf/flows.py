"""Conditional normalizing flows: the posterior of one modality."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from zuko.nn import MaskedMLP

from mvcore.distributions import DiagonalNormal, Encoded, full

#: Largest logarithm of a scale that one transform multiplies by; it keeps the gradients of far latents finite.
BOUND = 5.0


@final
class ConditionalFlow(nn.Module):
    r"""The posterior :math:`q_m(z \mid x_m)`: :math:`z = \mu + \sigma u` with a normal :math:`f(u; \mu, \log\sigma)`.

    f composes masked affine transforms :math:`u_i \mapsto e^{a_i} u_i + b_i`, whose a and b depend on the dimensions
    before i, every second one in reversed order. It starts as the identity, so the posterior starts as the encoder's
    normal. The density takes one pass through each transform, which is what Hamiltonian Monte Carlo and the training
    on complete rows ask for.

    Args:
        latent_dim: Dimensions D of the latent.
        kind: ``autoregressive``: a draw takes D passes through each transform. ``coupling``: two, for a and b depend
            on half of the dimensions.
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
        self.passes = latent_dim if kind == "autoregressive" else min(2, latent_dim)
        group = torch.arange(latent_dim) // math.ceil(latent_dim / self.passes)
        orders = [group if i % 2 == 0 else group.flip(0) for i in range(transforms)]
        self.networks = nn.ModuleList(_network(order, hidden) for order in orders)

    def forward(self, encoded: Encoded) -> FlowDensity:
        """The posteriors of n observations."""
        base = DiagonalNormal(full(encoded.loc), full(encoded.log_scale))
        with torch.autocast(base.loc.device.type, enabled=False):
            context = torch.cat([base.loc, base.log_scale], -1)
            return FlowDensity(base, tuple(_bind(net, context, self.passes) for net in self.networks))


@final
@dataclass(frozen=True)
class FlowDensity:
    """The posteriors of n rows: distributions of batch shape ``(n)`` over latents ``(D,)``.

    Args:
        base: The encoder's normals ``(n, D)``, which locate and scale the flow.
        transforms: The flow's transforms, from the latent to the noise.
    """

    base: DiagonalNormal
    transforms: tuple[MaskedAffine, ...]

    def take(self, index: Tensor) -> FlowDensity:
        """The posteriors of some rows."""
        return FlowDensity(self.base.take(index), tuple(t.take(index) for t in self.transforms))

    def detach(self) -> FlowDensity:
        """The same posteriors, cut from the graph."""
        return FlowDensity(self.base.detach(), tuple(t.detach() for t in self.transforms))

    def rsample(self, K: int) -> Tensor:
        """K reparametrised draws ``(K, n, D)``."""
        return self.rsample_and_log_prob(K)[0]

    def rsample_and_log_prob(self, K: int) -> tuple[Tensor, Tensor]:
        """K reparametrised draws ``(K, n, D)`` and their log-densities in nats ``(K, n)``."""
        unit = DiagonalNormal.unit(*self.base.loc.shape, like=self.base.loc)
        u = unit.rsample(K)
        log_q = unit.log_prob(u) - self.base.log_scale.sum(-1)
        with torch.autocast(u.device.type, enabled=False):
            for transform in reversed(self.transforms):
                u, log_det = transform.inverse(u)
                log_q = log_q + log_det
            return torch.addcmul(self.base.loc, self.base.scale, u), log_q

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density in nats ``(K, n)`` of ``z (K, n, D)``."""
        u, log_q = (z - self.base.loc) / self.base.scale, self._constant
        with torch.autocast(z.device.type, enabled=False):
            for transform in self.transforms:
                u, log_det = transform(u)
                log_q = log_q + log_det
        return torch.add(log_q, (u * u).sum(-1), alpha=-0.5)

    @cached_property
    def _constant(self) -> Tensor:
        """What the density of z has besides the noise's squares and the transforms' determinants ``(n,)``."""
        return -self.base.log_scale.sum(-1) - 0.5 * math.log(2 * math.pi) * self.base.loc.shape[-1]


@final
@dataclass(frozen=True)
class MaskedAffine:
    """One transform, bound to the context of n rows: a pass repeats nothing that depends on the context alone."""

    offset: Tensor
    """What the context adds to the first layer ``(n, H)``, its bias included."""
    weights: tuple[Tensor, ...]
    """The masked weights of all layers; of the first those of u alone."""
    biases: tuple[Tensor, ...]
    """The biases of all layers but the first."""
    passes: int
    """Passes that the inverse takes."""

    def __call__(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """``exp(a) u + b`` and the log-determinant, Σ a, of ``u (K, n, D)``."""
        a, b = self._parameters(u)
        return torch.addcmul(b, a.exp(), u), a.sum(-1)

    def inverse(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """u, and the log-determinant Σ a of the transform there; each pass makes one more group of dimensions right."""
        u = torch.zeros_like(v)
        for _ in range(self.passes):
            a, b = self._parameters(u)
            u = (v - b) * (-a).exp()
        return u, a.sum(-1)

    def take(self, index: Tensor) -> MaskedAffine:
        """The transforms of some rows."""
        return replace(self, offset=self.offset.index_select(0, index))

    def detach(self) -> MaskedAffine:
        """The same transforms, cut from the graph."""
        weights, biases = (tuple(t.detach() for t in part) for part in (self.weights, self.biases))
        return MaskedAffine(self.offset.detach(), weights, biases, self.passes)

    def _parameters(self, u: Tensor) -> tuple[Tensor, Tensor]:
        h = F.linear(u, self.weights[0]) + self.offset
        for weight, bias in zip(self.weights[1:], self.biases, strict=True):
            h = F.linear(F.relu(h), weight, bias)
        a, b = h.chunk(2, -1)
        return a.clamp(-BOUND, BOUND), b


def _network(order: Tensor, hidden: Sequence[int]) -> MaskedMLP:
    """The network of one transform, from u and the context, which each output sees; its output starts at 0."""
    D = len(order)
    sees = torch.cat([order[:, None] > order, torch.ones(D, 2 * D, dtype=torch.bool)], 1)
    network = MaskedMLP(sees.repeat(2, 1), hidden_features=tuple(hidden))
    nn.init.zeros_(network[-1].weight)
    nn.init.zeros_(network[-1].bias)
    return network


def _bind(network: nn.Module, context: Tensor, passes: int) -> MaskedAffine:
    linear = [layer for layer in network if hasattr(layer, "mask")]  # type: ignore[attr-defined]
    first, *others = [layer.mask * layer.weight for layer in linear]
    D = first.shape[1] - context.shape[1]
    offset = F.linear(context, first[:, D:], linear[0].bias)
    return MaskedAffine(offset, (first[:, :D], *others), tuple(layer.bias for layer in linear[1:]), passes)
