"""The networks that all sides of a benchmark share, as plain modules; each side wraps them in its own types."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn

from benchmarks.settings import Setting


class Encoder(nn.Module):
    """MLP with one linear head for all outputs.

    ``x`` (n, \\*shape) gives ``(loc, log_scale)`` (n, D), and ``(private_loc, private_log_scale)`` (n, P) after them
    where ``private_dim`` is not 0. ``network`` is the same before the split: (n, 2D + 2P).
    """

    def __init__(self, shape: tuple[int, ...], hidden: tuple[int, ...], latent_dim: int, private_dim: int = 0) -> None:
        super().__init__()
        self.widths = [latent_dim] * 2 + ([private_dim] * 2 if private_dim else [])
        layers: list[nn.Module] = [nn.Flatten()]
        for n_in, n_out in pairwise((prod(shape), *hidden)):
            layers += [nn.Linear(n_in, n_out), nn.ReLU()]
        self.network = nn.Sequential(*layers, nn.Linear(hidden[-1], sum(self.widths)))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Encodes ``x`` into locations and log-scales."""
        outputs: tuple[Tensor, ...] = self.network(x).split(self.widths, dim=-1)
        return outputs


class Decoder(nn.Module):
    """MLP with one hidden layer and no squashing activation: ``z`` (n, D + P) gives the mean (n, \\*shape)."""

    def __init__(self, shape: tuple[int, ...], hidden: int, latent_dim: int) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(latent_dim, hidden), nn.ReLU(), nn.Linear(hidden, prod(shape)), nn.Unflatten(-1, shape)
        )

    def forward(self, z: Tensor) -> Tensor:
        """Decodes ``z`` into means."""
        mean: Tensor = self.network(z)
        return mean


@dataclass(frozen=True)
class Networks:
    """One encoder and one decoder for each modality."""

    encoders: dict[str, Encoder]
    decoders: dict[str, Decoder]

    def parameters(self) -> list[nn.Parameter]:
        """All parameters."""
        modules = [*self.encoders.values(), *self.decoders.values()]
        return [p for module in modules for p in module.parameters()]


def make_networks(setting: Setting, *, seed: int = 0) -> Networks:
    """Builds the networks of ``setting``; the same seed gives the same weights. The global random state is restored."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        widths = (setting.latent_dim, setting.private_dim)
        encoders = {m: Encoder(setting.shape, setting.encoder_hidden, *widths) for m in setting.names}
        decoders = {m: Decoder(setting.shape, setting.decoder_hidden, sum(widths)) for m in setting.names}
    return Networks(encoders, decoders)


@torch.no_grad()
def double_log_scales(encoder: Encoder) -> None:
    """Makes an encoder output log-variances instead of log-scales, at no cost when it runs.

    A side that reads variances then starts from the same posterior as one that reads scales.
    """
    head = encoder.network[-1]
    assert isinstance(head, nn.Linear)
    is_log_scale = torch.arange(len(encoder.widths)) % 2
    factor = (1.0 + is_log_scale).repeat_interleave(torch.tensor(encoder.widths))
    head.weight.mul_(factor.unsqueeze(1))
    head.bias.mul_(factor)
