"""The settings that every side of a benchmark builds from: sizes, data and what is missing."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

LEARNING_RATE = 1e-4


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Sizes of one benchmark; all modalities have the same shape."""

    modalities: int
    shape: tuple[int, ...]
    latent_dim: int = 64
    private_dim: int = 0
    encoder_hidden: tuple[int, ...] = (512, 512)
    decoder_hidden: int = 512
    rows: int = 128

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the modalities."""
        return tuple(f"m{i}" for i in range(self.modalities))


IMAGES = Setting(modalities=5, shape=(3, 28, 28))
# At 128 rows and 64 latent dims multivae needs more than 24 GB after a few steps: 1,023 growing copies of (C, B, D).
TEN_MODALITIES = Setting(modalities=10, shape=(32,), rows=32, latent_dim=16)
IMAGES_PRIVATE = replace(IMAGES, latent_dim=32, private_dim=32)
IMAGES_32 = replace(IMAGES, rows=32)
FEATURES_784 = Setting(modalities=5, shape=(784,), rows=50)
FEATURES_64 = Setting(modalities=5, shape=(64,), rows=50)

HALF_MISSING = 0.5

# The largest ratio of medians that is accepted, by case and what it is measured against.
BOUNDS = {
    ("MoPoE complete", "hand-written"): 1.10,
    ("MoPoE half missing", "hand-written"): 1.10,
    ("MoPoE complete", "multivae"): 0.6,
    ("MoPoE half missing", "multivae"): 0.45,
    ("MoPoE ten modalities", "multivae"): 0.03,
    ("MMVAE+ complete", "multivae"): 0.8,
    ("MMVAE+ half missing", "multivae"): 0.4,
    ("JNF sampling from two", "multivae"): 0.5,
    ("MVAE complete", "multivae"): 0.8,
    ("MVAE half missing", "multivae"): 0.55,
    ("MVTCAE complete", "multivae"): 0.85,
    ("MVTCAE half missing", "multivae"): 0.55,
    ("MMVAE complete", "multivae"): 0.8,
    ("MMVAE half missing", "multivae"): 0.4,
    ("JMVAE complete", "multivae"): 0.8,
    ("DMVAE complete", "multivae"): 0.7,
    ("DMVAE half missing", "multivae"): 0.45,
    ("CRMVAE complete", "multivae"): 0.8,
    ("CRMVAE half missing", "multivae"): 0.5,
    ("TELBO, joint", "multivae"): 0.8,
    ("TELBO, surrogates", "multivae"): 0.8,
    ("CVAE, learned prior", "multivae"): 0.9,
    ("CVAE, fixed prior", "multivae"): 0.9,
    ("MHVAE complete", "multivae"): 0.8,
    ("MHVAE half missing", "multivae"): 0.5,
    ("joint likelihood, 784 features", "multivae"): 0.6,
    ("joint likelihood, 64 features", "multivae"): 0.35,
}


@dataclass(frozen=True)
class Rows:
    """One batch: ``x[m]`` (B, *shape), 0 where absent, and ``observed`` (B, M)."""

    x: dict[str, Tensor]
    observed: Tensor

    @property
    def complete(self) -> bool:
        """Whether every row has every modality."""
        return bool(self.observed.all())

    def packed(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Observed rows only: ``x[m]`` (n_m, *shape) and their indices ``rows[m]`` (n_m,)."""
        rows = {m: self.observed[:, i].nonzero().squeeze(1) for i, m in enumerate(self.x)}
        return {m: x[rows[m]] for m, x in self.x.items()}, rows


def draw_rows(setting: Setting, *, missing: float = 0.0, seed: int = 0) -> Rows:
    """Draws a batch of normal data; each modality is absent with probability ``missing``, one per row always kept."""
    generator = torch.Generator().manual_seed(seed)
    size = (setting.rows, setting.modalities)
    observed = torch.rand(size, generator=generator) >= missing
    kept = torch.randint(setting.modalities, (setting.rows,), generator=generator)
    empty = ~observed.any(1)
    observed[empty, kept[empty]] = True
    x = {m: torch.randn(setting.rows, *setting.shape, generator=generator) for m in setting.names}
    for i, m in enumerate(x):
        x[m][~observed[:, i]] = 0.0
    return Rows(x, observed)
