"""CVAE for mvcore: a main modality given any subset of the others. Importing this module imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from attrs import evolve, field, frozen

from mvcore.data import Schema
from mvcore.errors import ConfigError
from mvcore.models import PartsConfig
from mvcore.plugins import ComponentSpec, LikelihoodConfig, ModelFacts
from mvcore.validators import not_negative, positive, share, widths


@frozen(kw_only=True)
class CVAEConfig(PartsConfig):
    """A VAE of a main modality, conditioned on any subset of the others; of those the decoders are not used."""

    main: str | None = None
    """The modality that is generated, imputed and scored; all others are conditions. By default the first."""
    prior: Literal["learned", "standard"] = "learned"
    """p(z|c): ``learned``, a network of the conditions (paper); ``standard``, N(0, I) whatever they are."""
    beta: float = field(default=1.0, validator=not_negative)
    """Weight β of KL(q(z|y,c)‖p(z|c)); 1 makes the loss a bound."""
    warmup: float = field(default=0.0, validator=not_negative)
    """Epochs over which β grows linearly from 0."""
    samples: int = field(default=1, validator=positive)
    """Draws of each row's posterior in the loss; 1 in the paper."""
    hidden: tuple[int, ...] = field(default=(512, 512), validator=widths)
    """Widths of the hidden layers of posterior and prior, which the modalities' encodings enter."""
    encoding_dim: int = field(default=64, validator=positive)
    """Dimensions of each of the two vectors that a modality's encoder gives."""
    condition_dim: int = field(default=64, validator=not_negative)
    """Dimensions of the features of the conditions that the decoder is told beside z. With 0 it is told none: what they
    say goes through z alone, which is then an embedding of the whole row, not of what the conditions leave open."""
    condition_dropout: float = field(default=0.3, validator=share)
    """Probability with which each condition of a row is hidden in training, so that every subset is learned, also where
    all rows are complete. The paper has one set of conditions, 0."""

    def complete(self, schema: Schema, likelihoods: Mapping[str, LikelihoodConfig]) -> Self:
        """This config with every modality of the schema, the first as the main one where none is named."""
        completed = super().complete(schema, likelihoods)
        return evolve(completed, main=schema.names[0] if self.main is None else self.main)

    def main_of(self, schema: Schema) -> str:
        """The main modality.

        Raises:
            ConfigError: If the schema does not have it.
        """
        main = schema.names[0] if self.main is None else self.main
        if main not in schema.names:
            raise ConfigError([f"main: unknown modality {main!r} (the data has {', '.join(schema.names)})"])
        return main


spec = ComponentSpec(
    api=1,
    config=CVAEConfig,
    build="mvcore_cvae.model:build",
    summary="A main modality given any subset of the others (Sohn et al., 2015)",
    paper="https://papers.nips.cc/paper/2015/hash/8d55a249e6baa5c06772297520da2051-Abstract.html",
    partial_data="Each row that has the main modality trains its bound given the conditions that it has; a row without "
    "it trains nothing.",
    facts=ModelFacts(
        kind="conditional: one modality given the others",
        private="no",
        likelihood="of the main modality given the conditions: importance sampling from the posterior",
        subsets="a network of the summed encodings of what is given",
        cost="2 densities; the main modality decoded once",
    ),
)
