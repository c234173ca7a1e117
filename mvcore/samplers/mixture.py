"""A Gaussian mixture over all latents of a model."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor

from mvcore.data.rows import batches
from mvcore.distributions.latents import Latents
from mvcore.errors import DataError, NotFittedError
from mvcore.extras import require
from mvcore.samplers.base import Sampler
from mvcore.samplers.specs import GaussianMixtureConfig

if TYPE_CHECKING:
    from mvcore.data.batch import Batch
    from mvcore.data.rows import Rows
    from mvcore.models.base import Model

#: Rows encoded at once.
_BATCH = 512


@final
class GaussianMixtureSampler(Sampler):
    """Draws from a mixture of normals with full covariances, fitted to one posterior draw of each training row.

    The draws hold all latents of a row side by side, also those of modalities that it lacks, as the posterior draws
    them. Generation follows the aggregate posterior more closely than the prior does (Ghosh et al., 2020).

    Args:
        latent_shapes: Shape of each latent, by name.
        components: Normals of the mixture.
        config: The config that it was built from.

    References:
        | From Variational to Deterministic Autoencoders (Ghosh et al., 2020)
        | https://arxiv.org/abs/1903.12436
    """

    weights: Tensor
    means: Tensor
    factors: Tensor
    fitted: Tensor

    def __init__(
        self,
        latent_shapes: Mapping[str, tuple[int, ...]],
        *,
        components: int = 10,
        config: GaussianMixtureConfig | None = None,
    ) -> None:
        super().__init__(config)
        self.shapes, self.components = dict(latent_shapes), components
        size = sum(prod(shape) for shape in self.shapes.values())
        self.register_buffer("weights", torch.full((components,), 1 / components))
        self.register_buffer("means", torch.zeros(components, size))
        #: Cholesky factors of the covariances ``(C, size, size)``.
        self.register_buffer("factors", torch.eye(size).repeat(components, 1, 1))
        self.register_buffer("fitted", torch.tensor(False))

    def fit(self, model: Model, data: Rows) -> None:
        """Fits the mixture by expectation maximisation (scikit-learn).

        Raises:
            DataError: If there are fewer rows than components.
            MissingExtraError: Without scikit-learn.
        """
        mixture = require("sklearn.mixture", "eval", "The sampler 'gaussian_mixture'")
        if len(data) < self.components:
            raise DataError(f"A mixture of {self.components} normals needs as many rows; got {len(data)}.")
        with torch.no_grad():
            z = torch.cat([self._flat(model, batch) for batch in batches(data, _BATCH)]).double().cpu().numpy()
        seed = int(torch.randint(2**31, ()))
        found = mixture.GaussianMixture(self.components, random_state=seed, reg_covar=1e-6).fit(z)
        self.weights.copy_(torch.from_numpy(found.weights_))
        self.means.copy_(torch.from_numpy(found.means_))
        self.factors.copy_(torch.linalg.cholesky(torch.from_numpy(found.covariances_)))
        self.fitted.fill_(True)

    def draw(self, model: Model, n: int) -> Latents:
        """N draws, K = n and N = 1.

        Raises:
            NotFittedError: If it was not fitted.
        """
        if not self.fitted:
            raise NotFittedError(
                "The sampler was not fitted; call mvcore.fit_sampler(model, data, 'gaussian_mixture')."
            )
        chosen = torch.multinomial(self.weights, n, replacement=True)
        noise = torch.randn(n, self.means.shape[1], dtype=self.means.dtype, device=self.means.device)
        z = self.means[chosen] + (self.factors[chosen] @ noise[:, :, None])[:, :, 0]
        parts = z.split([prod(shape) for shape in self.shapes.values()], dim=1)
        named = zip(self.shapes.items(), parts, strict=True)
        return Latents({name: part.reshape(n, 1, *shape) for (name, shape), part in named}, 1)

    def _flat(self, model: Model, batch: Batch) -> Tensor:
        """One draw of all latents of each row ``(B, size)``."""
        latents = model.posterior(model.encode_modalities(model.fitting(batch))).draw(1)
        return torch.cat([latents[name][0].flatten(1) for name in self.shapes], 1)


def build(config: GaussianMixtureConfig, *, latent_shapes: Mapping[str, tuple[int, ...]]) -> GaussianMixtureSampler:
    """A mixture of normals."""
    return GaussianMixtureSampler(latent_shapes, components=config.components, config=config)
