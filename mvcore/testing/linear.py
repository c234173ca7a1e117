"""The linear-Gaussian reference: a generative model all of whose posteriors and likelihoods have closed forms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from mvcore.data.batch import Batch
from mvcore.data.schema import Schema
from mvcore.distributions.diagonal import DiagonalNormal
from mvcore.distributions.encoded import Encoded
from mvcore.likelihoods.base import LikelihoodDecoder
from mvcore.likelihoods.real import NormalLikelihood


@final
class LinearGaussian:
    r""":math:`x_m \mid z, w_m \sim N(W_m z + V_m w_m + b_m, \sigma_m^2 I)` with standard normal latents, in float64.

    The columns of all :math:`[W_m V_m]` are orthogonal and not zero, so the exact posterior of every subset of
    modalities is diagonal, and z and w_m are independent in it.

    Args:
        features: Number of features of each modality; at least ``latent_dim`` and the private dimensions together.
        latent_dim: Dimensions D of the shared latent.
        private_dims: Dimensions D_m of the private latents.
        seed: Seed of the parameters.
    """

    def __init__(
        self,
        features: Mapping[str, int],
        latent_dim: int,
        private_dims: Mapping[str, int] | None = None,
        *,
        seed: int = 0,
    ) -> None:
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, dtype=torch.float64, generator=generator)

        self.latent_dim, self.private_dims = latent_dim, dict(private_dims or {})
        self.schema = Schema.from_shapes({m: (size,) for m, size in features.items()})
        self.W, self.V, self.b, self.sigma = {}, {}, {}, {}
        for m, size in features.items():
            columns = latent_dim + self.private_dims.get(m, 0)
            orthogonal = torch.linalg.qr(normal(size, columns))[0] * (0.5 + normal(columns).abs())
            self.W[m], self.V[m] = orthogonal[:, :latent_dim], orthogonal[:, latent_dim:]
            self.b[m] = normal(size)
            self.sigma[m] = 0.5 + float(normal(1).abs())

    def sample(self, n: int, *, observed: Tensor | None = None, seed: int = 1) -> Batch:
        """N rows, of which ``observed (n, M)`` says what they have; NaN stood where they do not."""
        generator = torch.Generator().manual_seed(seed)
        z = torch.randn(n, self.latent_dim, dtype=torch.float64, generator=generator)
        x, masks = {}, {}
        for i, m in enumerate(self.schema.names):
            w = torch.randn(n, self.V[m].shape[1], dtype=torch.float64, generator=generator)
            noise = torch.randn(n, len(self.b[m]), dtype=torch.float64, generator=generator)
            x[m] = z @ self.W[m].T + w @ self.V[m].T + self.b[m] + self.sigma[m] * noise
            if observed is not None:
                masks[m] = observed[:, i]
                x[m][~masks[m]] = torch.nan
        return Batch.from_dense(x, masks)

    def precision(self, name: str) -> Tensor:
        r"""Precision λ_m ``(D,)`` that the modality's likelihood has as a function of z, w_m integrated out."""
        squares: Tensor = self.W[name].square().sum(0)
        return squares / self.sigma[name] ** 2

    def log_likelihood(self, batch: Batch, names: Iterable[str] | None = None) -> Tensor:
        """Exact log p of what each row has ``(B,)``, or has of some modalities; 0 where it has nothing."""
        view = batch if names is None else batch.only(names)
        return torch.stack([self._row(view, row) for row in range(len(view))])

    def posterior(self, batch: Batch, names: Iterable[str] | None = None) -> DiagonalNormal:
        """Exact p(z | what each row has, or has of some modalities), ``(B, D)``."""
        view = batch if names is None else batch.only(names)
        precision = torch.ones(len(view), self.latent_dim, dtype=torch.float64)
        weighted = torch.zeros_like(precision)
        for m in view.names:
            rows = view.rows(m)
            precision[rows] += self.precision(m)
            weighted[rows] += (view.x[m] - self.b[m]) @ self.W[m] / self.sigma[m] ** 2
        return DiagonalNormal(weighted / precision, -0.5 * precision.log())

    def private_posterior(self, batch: Batch, name: str) -> DiagonalNormal:
        """Exact p(w_m | x_m) of the rows that have m, ``(n_m, D_m)``."""
        return _exact(batch.x[name] - self.b[name], self.V[name], self.sigma[name], prior=1.0)

    def encoders(self, experts: Literal["likelihood", "posterior"]) -> dict[str, nn.Module]:
        """Encoders that give the normalised likelihood of z, precision λ_m, or the unimodal posterior, 1 + λ_m.

        A product of likelihoods with the prior expert is the exact posterior of every subset; a mixture of single
        experts needs posteriors. Private latents get their exact posterior.
        """
        prior = {"likelihood": 0.0, "posterior": 1.0}[experts]
        return {m: _ExactEncoder(self.W[m], self.V[m], self.b[m], self.sigma[m], prior) for m in self.schema.names}

    def joint_encoder(self) -> nn.Module:
        """An encoder of complete rows that gives p(z | X), to stand in the place of a joint encoder."""
        return _ExactJointEncoder(self)

    def decoders(self) -> dict[str, LikelihoodDecoder]:
        """The exact decoders, of the shared and the private latent side by side."""
        return {
            m: LikelihoodDecoder(
                _ExactDecoder(torch.cat([self.W[m], self.V[m]], 1), self.b[m]),
                NormalLikelihood(self.b[m].shape, scale=self.sigma[m]),
            )
            for m in self.schema.names
        }

    def _row(self, batch: Batch, row: int) -> Tensor:
        have = [m for m in batch.names if bool(batch.column(m)[row])]
        if not have:
            return torch.zeros((), dtype=torch.float64)
        one = batch.select(torch.tensor([row]))
        W = torch.cat([self.W[m] for m in have])
        own: Tensor = torch.block_diag(*[self.V[m] @ self.V[m].T + self._noise(m) for m in have])
        density = MultivariateNormal(torch.cat([self.b[m] for m in have]), W @ W.T + own)
        value: Tensor = density.log_prob(torch.cat([one.x[m][0] for m in have]))
        return value

    def _noise(self, name: str) -> Tensor:
        return self.sigma[name] ** 2 * torch.eye(len(self.b[name]), dtype=torch.float64)


class _ExactEncoder(nn.Module):
    def __init__(self, W: Tensor, V: Tensor, b: Tensor, sigma: float, prior: float) -> None:
        super().__init__()
        self.W, self.V, self.b = nn.Parameter(W.clone()), nn.Parameter(V.clone()), nn.Parameter(b.clone())
        self.sigma, self.prior = sigma, prior

    def forward(self, x: Tensor, mask: Tensor | None = None, context: Tensor | None = None) -> Encoded:
        shared = _exact(x - self.b, self.W, self.sigma, self.prior)
        private = _exact(x - self.b, self.V, self.sigma, 1.0)
        return Encoded(shared.loc, shared.log_scale, private.loc, private.log_scale)


class _ExactJointEncoder(nn.Module):
    def __init__(self, world: LinearGaussian) -> None:
        super().__init__()
        self.world = world
        self.shift = nn.Parameter(torch.zeros(world.latent_dim, dtype=torch.float64))

    def forward(
        self, x: Mapping[str, Tensor], known: Mapping[str, Tensor], context: Tensor | None = None
    ) -> DiagonalNormal:
        exact = self.world.posterior(Batch.from_dense(x))
        return DiagonalNormal(exact.loc + self.shift, exact.log_scale)


class _ExactDecoder(nn.Module):
    def __init__(self, W: Tensor, b: Tensor) -> None:
        super().__init__()
        self.W, self.b = nn.Parameter(W.clone()), nn.Parameter(b.clone())

    def forward(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return (z @ self.W.T + self.b).unsqueeze(1)


def _exact(centred: Tensor, W: Tensor, sigma: float, prior: float) -> DiagonalNormal:
    precision = prior + W.square().sum(0) / sigma**2
    loc = centred @ W / sigma**2 / precision
    return DiagonalNormal(loc, (-0.5 * precision.log()).expand_as(loc))
