"""MHVAE: a hierarchy of latents with a learned prior, each level's posterior a product of experts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import prod
from typing import final

import torch
from attrs import evolve
from torch import Tensor, nn

from mvcore.build import Parts, build_parts
from mvcore.data import Batch, Schema, kept_at_random, widened
from mvcore.distributions import DiagonalNormal
from mvcore.inference import Encodings, log_likelihoods
from mvcore.likelihoods import LikelihoodDecoder, Observation
from mvcore.losses import LossOutput, warmed
from mvcore.models import Model
from mvcore.nn import image_shape, pyramid
from mvcore_mhvae import MOST, MHVAEConfig
from mvcore_mhvae.densities import Hierarchy, Pairs
from mvcore_mhvae.maps import MapDecoder, MapEncoder, MapExpert, MapHead, Shape, deepest_top_down, map_top_down
from mvcore_mhvae.vectors import VectorEncoder, VectorExpert, VectorHead, vector_top_down


@final
class MHVAE(Model):
    r"""A hierarchy of latents :math:`p(z_L) \prod_l p(z_l|z_{l+1}) \prod_m p(x_m|z_1)`.

    The posterior given the modalities S is :math:`q(z_l|x_S, z_{l+1}) \propto p(z_l|z_{l+1}) \prod_{m \in S}
    q_m(z_l|x_m, z_{l+1})`, precisions :math:`1/\sigma^2` added, from the deepest level down. A row that has O has the
    loss

    .. math::
        \frac{1}{|P(O)|} \sum_{S \in P(O)} -E_{q_S} \sum_{m \in O} r_m \log p(x_m|z_1)
        + \beta \sum_l E_{q_S} KL(q(z_l|x_S, z_{l+1})\|p(z_l|z_{l+1}))

    over its non-empty subsets P(O), a mean of bounds of :math:`\log p(x_O)` for r = β = 1. In training one subset may
    be drawn in place of all. The latents are ``shared``, z_1, which all modalities are decoded from, and ``level/<l>``
    above it.

    Args:
        schema: The modalities.
        parts: Their input transforms, decoders of z_1 and weights; its encoders are not used.
        encoders: For each modality a module to ``Steps``.
        top_down: For each level below the deepest, from the first up, a module from the latent above it to features.
        prior_blocks: For each of these, from its features to ``Encoded``.
        expert_blocks: For each of these, from its features and those of a modality to ``Encoded``; or for each modality
            such a module.
        level_dims: Dimensions of each latent, from the first level up.
        config: The numbers.

    References:
        | Unified Brain MR-Ultrasound Synthesis using Multi-Modal Hierarchical Representations (Dorent et al., 2023)
        | https://arxiv.org/abs/2309.08747
    """

    config: MHVAEConfig

    def __init__(
        self,
        schema: Schema,
        *,
        parts: Parts,
        encoders: Mapping[str, nn.Module],
        top_down: Sequence[nn.Module],
        prior_blocks: Sequence[nn.Module],
        expert_blocks: Sequence[nn.Module],
        level_dims: Sequence[int],
        config: MHVAEConfig,
    ) -> None:
        super().__init__(schema, inputs=parts.inputs, encoders=encoders, decoders=parts.decoders, config=config)
        self.top_down, self.prior_blocks = nn.ModuleList(top_down), nn.ModuleList(prior_blocks)
        self.expert_blocks = nn.ModuleList(expert_blocks)
        self.level_dims, self.modality_weights = tuple(level_dims), dict(parts.modality_weights)

    @property
    def count(self) -> int:
        """Levels L."""
        return len(self.level_dims)

    def forward(self, batch: Batch, *, epoch: float = math.inf, stage: str | None = None) -> LossOutput:
        """The loss of a batch; its terms, in nats, sum to it."""
        batch = widened(batch, self.schema, next(self.parameters()))
        rows, members = self._subsets(batch.observed)
        shares = -torch.bincount(rows, minlength=len(batch))[rows].to(next(self.parameters())).log()
        pairs = Pairs(self.encode_modalities(batch).experts, batch, rows, members)
        latents, levels = Hierarchy(self, len(batch), pairs, shares.to(batch.device)).traced(self.config.samples)
        scored = log_likelihoods(self, batch, latents)
        terms = {f"reconstruction/{m}": -self.modality_weights[m] * latents.mean(v) for m, v in scored.items()}
        beta = warmed(self.config.beta, self.config.warmup, epoch)
        return LossOutput.from_rows(terms | {f"kl/{n}": beta * latents.mean(q.kl(p)) for n, (q, p) in levels.items()})

    def encode_modalities(self, batch: Batch) -> Encodings:
        """The features of each level, and the deepest experts, of each modality's rows."""
        return Encodings(batch, self.encode_each(batch))

    def posterior(self, encodings: Encodings) -> Hierarchy:
        """The products of prior and experts of what each row has."""
        batch = encodings.batch
        return Hierarchy(self, len(batch), Pairs(encodings.experts, batch, None, batch.observed))

    def prior(self, encodings: Encodings | None = None) -> Hierarchy:
        """The learned prior."""
        return Hierarchy(self, 1 if encodings is None else len(encodings.batch))

    def decode(self, latents: Mapping[str, Tensor], name: str, context: Tensor | None = None) -> Observation:
        """Decodes a modality from the first level's latent."""
        observation: Observation = self.decoders[name](latents[self.name_of(1)], context)
        return observation

    def name_of(self, level: int) -> str:
        """What the latent of a level is called; the first, which all modalities are decoded from, is ``shared``."""
        return "shared" if level == 1 else f"level/{level}"

    def expert_block(self, level: int, name: str) -> nn.Module:
        """The module of a modality's expert of a level below the deepest."""
        block = self.expert_blocks[level - 1]
        return block[name] if isinstance(block, nn.ModuleDict) else block

    def unit(self, K: int, N: int, level: int) -> DiagonalNormal:
        """The standard normal ``(K, N, D_l)``."""
        return DiagonalNormal.unit(K, N, self.level_dims[level - 1], like=next(self.parameters()))

    def _subsets(self, observed: Tensor) -> tuple[Tensor, Tensor]:
        """Pairs of a row and a subset of what it has: the rows ``(N,)`` and the members ``(N, M)``, on the host."""
        if self.config.subsets == "sampled" and (self.training or observed.shape[1] > MOST):
            kept = kept_at_random(observed, 0.5) if self.training else observed  # each subset is as likely
            rows = kept.any(1).nonzero().squeeze(1)
            return rows, kept[rows]
        codes = torch.arange(1, 2 ** observed.shape[1])
        subsets = ((codes[:, None] >> torch.arange(observed.shape[1])) & 1).bool()
        rows, which = (~(subsets & ~observed[:, None]).any(2)).nonzero().unbind(1)
        return rows, subsets[which]


def build(config: MHVAEConfig, schema: Schema) -> MHVAE:
    """An MHVAE with blocks of vectors or of maps."""
    config.check_subsets(schema)
    return _of_maps(config, schema) if config.uses_maps(schema) else _of_vectors(config, schema)


def _of_vectors(config: MHVAEConfig, schema: Schema) -> MHVAE:
    D, L, width = config.latent_dim, config.levels, config.width
    sizes = dict.fromkeys(schema.names, width // 2)
    parts = build_parts(config, schema, latent_dims=sizes, decoded_dims=dict.fromkeys(schema.names, D))
    encoders = {m: VectorEncoder(e, L, width, D) for m, e in parts.encoders.items()}
    below = range(L - 1)
    return MHVAE(
        schema,
        parts=parts,
        encoders=encoders,
        top_down=[vector_top_down(D, width) for _ in below],
        prior_blocks=[VectorHead(width, D) for _ in below],
        expert_blocks=[_experts(config, schema, partial(VectorExpert, width, D)) for _ in below],
        level_dims=[D] * L,
        config=config,
    )


def _of_maps(config: MHVAEConfig, schema: Schema) -> MHVAE:
    D, L, narrow = config.latent_dim, config.levels, config.map_channels
    channels = [min(2**level, 4) * config.channels for level in range(L)]
    images = {m.name: image_shape(m.name, m.shape) for m in schema}
    _, height, width = images[schema.names[0]]
    sizes = pyramid(height, width, channels)[1:]
    shapes: list[Shape] = [(c, *size) for c, size in zip(channels, sizes, strict=True)]
    maps: list[Shape] = [(narrow, *size) for size in sizes[: L - 1]]
    first = maps[0] if maps else (D,)
    ones = dict.fromkeys(schema.names, 1)
    parts = build_parts(config, schema, latent_dims=ones)  # of these networks none is kept
    encoders, decoders = {}, {}
    for m in schema:
        image, own = images[m.name], parts.decoders[m.name]
        encoders[m.name] = MapEncoder(image[0], shapes, D, schema.context_dim)
        network = MapDecoder(first, shapes[0], image, own.likelihood.n_outputs, schema.context_dim)
        decoders[m.name] = LikelihoodDecoder(network, own.likelihood, own.target)
    return MHVAE(
        schema,
        parts=evolve(parts, decoders=decoders),
        encoders=encoders,
        top_down=[*map(map_top_down, maps[1:], shapes), *[deepest_top_down(D, shape) for shape in shapes[-2:-1]]],
        prior_blocks=[MapHead(shape[0], narrow) for shape in shapes[:-1]],
        expert_blocks=[_experts(config, schema, partial(MapExpert, shape[0], narrow)) for shape in shapes[:-1]],
        level_dims=[*map(prod, maps), D],
        config=config,
    )


def _experts(config: MHVAEConfig, schema: Schema, make: Callable[[], nn.Module]) -> nn.Module:
    return make() if config.share_experts else nn.ModuleDict({m: make() for m in schema.names})
