"""The contract between the core and its plugins, typing only; ``docs/protocols.md`` explains it.

Components are never checked with ``isinstance`` against these classes; the core calls them, and says what it got.
A joint posterior derives from ``mvcore.posteriors.base.JointPosterior``, a likelihood from
``mvcore.distributions.likelihoods.Likelihood``, a model from ``mvcore.models.base.Model``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from mvcore.data.batch import Batch
    from mvcore.distributions.latents import How, Latents
    from mvcore.evaluation.evaluation import Evaluation
    from mvcore.losses.base import LossOutput
    from mvcore.models.base import Model
    from mvcore.models.passes import Pass
    from mvcore.posteriors.base import Encoded


class Encoder(Protocol):
    """A module for q(z_m | x_m) of one modality."""

    def __call__(self, x: Tensor, mask: Tensor | None = None, context: Tensor | None = None) -> Encoded:
        """Encodes n observations, n = 0 included.

        Args:
            x: ``(n, *shape)`` after the input transform; 0 in unknown cells.
            mask: Which cells are known, of the shape of the observations; given only where some are not.
            context: The covariates of the rows ``(n, C)``; given only where the schema has some. An encoder without
                the argument is refused for such a schema, and for no other.
        """
        ...


class Decoder(Protocol):
    """A module for the outputs from which a likelihood makes p(x_m | z)."""

    def __call__(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Decodes n latents, n = 0 included.

        Args:
            z: ``(n, D + D_m)``.
            context: As of an encoder.

        Returns:
            The outputs ``(n, P, *shape)``, P the likelihood's ``n_outputs``.
        """
        ...


class LatentDistribution(Protocol):
    """What ``Model.posterior``, ``Model.prior`` and ``Model.proposal`` return."""

    def draw(self, K: int = 1, how: How = "random") -> Latents:
        """Reparametrised draws from torch's global generator; ``how`` matters for mixtures only."""
        ...

    def log_prob(self, latents: Latents) -> Tensor:
        """Log-density of each draw in nats, ``(K, N)``; latents of absent modalities are left out."""
        ...

    def point(self) -> Latents:
        """The means, K = 1 and N = B; without a closed form, a documented estimate."""
        ...


class Loss(Protocol):
    """A training objective of a ``MultimodalVAE``; a module, for it may own parameters."""

    def __call__(self, p: Pass) -> LossOutput:
        """The mean over all rows of the batch, in nats."""
        ...


class Sampler(Protocol):
    """Draws latents without rows to condition on, fitted after training on all latents jointly."""

    def fit(self, model: Model, data: Iterable[Batch]) -> None:
        """Fits to the posterior of training data."""
        ...

    def draw(self, n: int) -> Latents:
        """N draws, K = n and N = 1, from torch's global generator."""
        ...


class Metric(Protocol):
    """A measure of a trained model."""

    def __call__(self, e: Evaluation) -> Mapping[str, float]:
        """Values by name; each name starts with the metric's own, parts are joined by ``/``.

        A value that no row has is left out.

        Raises:
            NotApplicableError: If the data or a resource that the metric needs is not there.
        """
        ...


class Streamable(Protocol):
    """Data whose observed rows of one modality can be read in blocks."""

    def stream(self, name: str) -> Iterable[tuple[Tensor, Tensor | None]]:
        """Blocks of observations ``(n, *shape)`` with the masks of their known cells."""
        ...

    def stream_context(self) -> Iterable[Mapping[str, Tensor]]:
        """Blocks of the rows' covariates ``(n, *shape)``; asked only where the model's schema has some."""
        ...
