"""What draws codes to a standard normal: a discriminator, or the maximum mean discrepancy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from mvcore.data import Batch
from mvcore.distributions import DiagonalNormal, Latents, full
from mvcore.models import without_gradient
from mvcore.nn import layers


@final
class Adversary(nn.Module):
    r"""A discriminator with logits d of "drawn from the prior", and the codes that it is to take for such draws.

    The codes minimise :math:`-\lambda \log \sigma(d(z))` (the non-saturating loss), the discriminator
    :math:`-\log \sigma(d(p)) - \log(1 - \sigma(d(z)))` with draws p of the prior, one for each code. Both are terms of
    one loss: the first sends no gradient to the discriminator, the second none to the codes. So one optimizer takes
    both steps at once, where the paper takes them in turn; checkpoints, stages and processes need to know nothing.

    Args:
        latent_dim: Dimensions D of the codes.
        hidden: Widths of the discriminator's hidden layers.
        weight: Weight λ of the codes' loss; Adam's steps of the discriminator would not depend on one of its own.
    """

    def __init__(self, latent_dim: int, *, hidden: Sequence[int] = (512, 512), weight: float = 1.0) -> None:
        super().__init__()
        body, width = layers(latent_dim, hidden, "relu", False, 0.0)
        self.discriminator, self.weight = nn.Sequential(*body, nn.Linear(width, 1)), weight

    def forward(self, codes: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Both terms ``(B,)``, each the mean over the codes of a row."""
        rows = torch.cat([batch.column(m).nonzero().squeeze(1) for m in batch.names])
        z = torch.cat([codes[m] for m in batch.names])
        latents = Latents({}, len(batch), rows=rows, log_weight=-batch.observed.sum(1)[rows].to(z).log())
        drawn = DiagonalNormal.unit(*z.shape, like=z.detach()).rsample(1)[0]
        with without_gradient(self.discriminator):
            fooling = softplus(-self._logits(z))
        telling = softplus(-self._logits(drawn)) + softplus(self._logits(z.detach()))
        return {"matching": self.weight * latents.mean(fooling), "discriminator": latents.mean(telling)}

    def _logits(self, z: Tensor) -> Tensor:
        """The logits d ``(1, N)`` of ``z (N, D)``."""
        return full(self.discriminator(z).T)


@final
class Discrepancy(nn.Module):
    r"""The unbiased squared maximum mean discrepancy between the codes of each modality and draws of the prior.

    The kernel is inverse multiquadratic, :math:`k(z, z') = \sum_s C_s / (C_s + \|z - z'\|^2)` with :math:`C_s = 2 D s`.
    A modality counts by the rows of the batch that have it, each by 1/\|O\|, and not at all with fewer than two rows.
    It is one of a batch, no mean over rows: in several processes, or micro-batches, it is that of each part.

    Args:
        scales: The scales s.
        weight: Weight λ.
    """

    def __init__(self, *, scales: Sequence[float] = (1.0,), weight: float = 10.0) -> None:
        super().__init__()
        self.scales, self.weight = tuple(scales), weight

    def forward(self, codes: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """The term, the same ``(B,)`` for every row; none of weight 0."""
        if not self.weight:
            return {}
        share = batch.observed / batch.observed.sum(1, keepdim=True).clamp(min=1)  # (B, M), on the host
        weights = (share.sum(0) / max(1, len(batch))).tolist()
        parts = [w * self._of(codes[m]) for m, w in zip(batch.names, weights, strict=True)]
        return {"matching": self.weight * torch.stack(parts).sum().expand(len(batch))}

    def _of(self, z: Tensor) -> Tensor:
        drawn = DiagonalNormal.unit(*z.shape, like=z.detach()).rsample(1)[0]
        with torch.autocast(z.device.type, enabled=False):
            return squared_discrepancy(z, drawn, self.scales)


def squared_discrepancy(z: Tensor, other: Tensor, scales: Sequence[float] = (1.0,)) -> Tensor:
    """The unbiased estimate of the squared maximum mean discrepancy of two samples ``(n, D)``; 0 for n < 2.

    It is 0 on average for samples of one distribution, and may be negative.
    """
    n, D = z.shape
    if n < 2:
        return 0 * z.sum()
    within = sum(_kernel(x, x, D, scales).sum() - n * len(scales) for x in (z, other))
    return within / (n * (n - 1)) - 2 * _kernel(z, other, D, scales).mean()


def _kernel(x: Tensor, y: Tensor, D: int, scales: Sequence[float]) -> Tensor:
    """The kernel ``(n, n)`` of each pair."""
    # a distance by a square root has no gradient at 0, where the diagonal of a sample with itself lies
    squares = (x[:, None] - y).square().sum(-1)
    return torch.stack([2 * D * s / (2 * D * s + squares) for s in scales]).sum(0)
