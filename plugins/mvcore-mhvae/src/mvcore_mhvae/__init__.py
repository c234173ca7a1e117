"""MHVAE for mvcore: a hierarchy of latents, each level a product of experts. Importing this module imports no torch."""

from __future__ import annotations

from typing import Any, Literal

from attrs import Attribute, field, frozen

from mvcore.data import Schema
from mvcore.errors import ConfigError
from mvcore.models import PartsConfig
from mvcore.plugins import ComponentSpec, ModelFacts
from mvcore.validators import not_negative, positive

#: Most modalities all of whose subsets a row is trained on: 1,023.
MOST = 10


@frozen(kw_only=True)
class MHVAEConfig(PartsConfig):
    """A hierarchy of latents with a learned prior; each level's posterior is a product of the modalities' experts.

    ``vectors`` put the blocks between the modalities' encoders and decoders; ``maps`` have networks of their own in
    their place.
    """

    levels: int = field(default=3, validator=positive)
    """Levels L of latents; 3 in the public library, 7 in the official code."""
    latent_dim: int = field(default=20, validator=positive)
    """Dimensions of each level's latent, of ``maps`` those of the deepest one."""
    blocks: Literal["auto", "vectors", "maps"] = "auto"
    """``maps``: the latents above the deepest are maps of half, a quarter, … of the images' size (paper); ``vectors``:
    all are vectors; ``auto``: maps where all modalities are images of one height and width, of at least 8 × 8."""
    width: int = field(default=256, validator=positive)
    """Width of the blocks of vectors; even."""
    channels: int = field(default=32, validator=positive)
    """Channels of the blocks of maps at half the images' size; doubled at each level, up to four times as many."""
    map_channels: int = field(default=4, validator=positive)
    """Channels of the latents that are maps."""
    share_experts: bool = True
    """Whether the experts below the deepest level have the same weights for all modalities (official code); each
    modality's encoder is its own."""
    subsets: Literal["all", "sampled"] = "all"
    """What a training row is inferred from: ``all`` non-empty subsets of its modalities in turn, the loss their mean;
    ``sampled``: one of them, each as likely. All that the row has is scored each time."""
    beta: float = field(default=1.0, validator=not_negative)
    """Weight β of the divergences of all levels."""
    warmup: float = field(default=0.0, validator=not_negative)
    """Epochs over which β grows linearly from 0."""
    samples: int = field(default=1, validator=positive)
    """Draws for each row and subset in the loss."""

    @width.validator
    def _check_width(self, attribute: Attribute[Any], value: int) -> None:
        if value % 2:
            raise ValueError(f"width must be even, got {value!r}")

    def uses_maps(self, schema: Schema) -> bool:
        """Whether the latents are maps.

        Raises:
            ConfigError: If they are to be, and the modalities are not images of one height and width.
        """
        images = all(len(m.shape) == 3 and min(m.shape[1:]) >= 8 and m.categories is None for m in schema)
        fits = images and len({m.shape[1:] for m in schema}) == 1
        if self.blocks == "maps" and not fits:
            shapes = ", ".join(f"{m.name} {m.shape}" for m in schema)
            raise ConfigError([f"blocks: 'maps' needs images of one height and width, at least 8 × 8; got {shapes}"])
        return fits and self.blocks != "vectors"

    def check_subsets(self, schema: Schema) -> None:
        """Raises a ConfigError if all subsets of so many modalities are too many."""
        if self.subsets == "all" and len(schema) > MOST:
            count = 2 ** len(schema) - 1
            raise ConfigError(
                [f"subsets: 'all' of {len(schema)} modalities are {count:,} for each row; take 'sampled' above {MOST}"]
            )


spec = ComponentSpec(
    api=1,
    config=MHVAEConfig,
    build="mvcore_mhvae.model:build",
    summary="A hierarchy of latents, each level a product of experts (Dorent et al., 2023)",
    paper="https://arxiv.org/abs/2309.08747",
    partial_data="Each row trains the mean bound of the subsets of what it has, all of which is scored; absent "
    "modalities cost nothing.",
    facts=ModelFacts(
        kind="hierarchy of products of experts",
        private="no",
        likelihood="importance sampling through all levels",
        subsets="closed form at each level: the product of prior and experts of what is given",
        cost="2^M − 1 subsets, or one drawn; L levels of M experts each",
    ),
)
