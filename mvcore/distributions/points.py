"""What models without a density have in place of one: latents that are points, and no prior."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Never, final

from torch import Tensor

from mvcore.distributions.latents import How, Latents
from mvcore.errors import NotApplicableError

if TYPE_CHECKING:
    from mvcore.distributions.protocols import LatentDistribution


_NO_DENSITY = (
    "The encoders of this model give points, which have no density, so no row has a likelihood. Measure such a model "
    "by what it reconstructs and imputes, or by a probe of its embeddings."
)
_NO_PRIOR = (
    "This model has no prior, so nothing can be drawn from one. Fit a sampler of its latents, "
    "mvcore.fit_sampler(model, data, 'gaussian_mixture'), which generate then draws from."
)


@final
@dataclass(frozen=True)
class Points:
    """The latents of rows as a deterministic encoder gives them: every draw is the same, and there is no density.

    A posterior of this kind makes a model one without likelihoods: all that asks for one raises a NotApplicableError.

    Args:
        values: The latents by name, ``(B, *shape)``.
    """

    values: Mapping[str, Tensor]

    def draw(self, K: int = 1, how: How = "random") -> Latents:
        """The points, K times."""
        size = len(next(iter(self.values.values())))
        return Latents({name: z.expand(K, *z.shape) for name, z in self.values.items()}, size)

    def log_prob(self, latents: Latents) -> Never:
        """Raises a NotApplicableError."""
        raise NotApplicableError(_NO_DENSITY)

    def point(self) -> Latents:
        """The points."""
        return self.draw()


@final
@dataclass(frozen=True)
class NoPrior:
    """The prior of a model that has none: what would draw from it, or score under it, raises a NotApplicableError."""

    def draw(self, K: int = 1, how: How = "random") -> Never:
        """Raises a NotApplicableError, which says how to generate all the same."""
        raise NotApplicableError(_NO_PRIOR)

    def log_prob(self, latents: Latents) -> Never:
        """Raises a NotApplicableError."""
        raise NotApplicableError(_NO_PRIOR)

    def point(self) -> Never:
        """Raises a NotApplicableError."""
        raise NotApplicableError(_NO_PRIOR)


def check_density(latents: LatentDistribution) -> None:
    """Raises a NotApplicableError if latents are points, so that no row has a likelihood, joint or conditional."""
    if isinstance(latents, Points):
        raise NotApplicableError(_NO_DENSITY)
