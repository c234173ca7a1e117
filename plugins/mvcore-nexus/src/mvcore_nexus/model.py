"""Nexus: a VAE for each modality, and above them one whose data are their latents."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn

from mvcore.build import build_parts
from mvcore.data import Batch, InputTransform, Schema, widened
from mvcore.distributions import DiagonalNormal, Encoded, Latents, full
from mvcore.inference import BLOCK, Encodings
from mvcore.likelihoods import LikelihoodDecoder, Observation
from mvcore.losses import LossOutput, warmed
from mvcore.models import Model
from mvcore.nn import Encoder, MLPEncoder, layers
from mvcore_nexus import NexusConfig
from mvcore_nexus.densities import NexusPosterior, NexusPrior, added, at, drawn, spread


def forced_dropout(observed: Tensor, rate: float) -> Tensor:
    """Forced perceptual dropout: which messages a training row keeps, from torch's global generator.

    With probability ``rate`` a row with n ≥ 2 modalities loses some: their number is uniform in 1..n − 1, and every
    choice of so many is as likely. A row with one modality keeps it.

    Args:
        observed: Which row has which modality ``(B, M)``, bool, on the host.
        rate: Probability ρ.

    Returns:
        Which row keeps which message ``(B, M)``, bool, on the host.
    """
    size = observed.sum(1)
    several = (torch.rand(len(observed)) < rate) & (size > 1)
    dropped = (1 + (torch.rand(len(observed)) * (size - 1)).long()) * several
    order = torch.rand(observed.shape).masked_fill(~observed, 2.0)  # absent ones come last
    return order.argsort(1).argsort(1) < (size - dropped)[:, None]


@final
class Nexus(Model):
    r"""A VAE for each modality, and above them one whose data are their latents.

    .. math::
        \sum_{m \in O} \big\{-r_m \log p(x_m|z_m) + \beta_m KL(q(z_m|x_m)\|p)\big\}
        - \sum_{m \in O} \gamma_m \log p(\bar z_m|z_\sigma) + \beta_{top} KL(q(z_\sigma|\text{messages})\|p)

    with :math:`z_m \sim q(z_m|x_m)`, and :math:`\bar z_m` the same draw cut from the graph: it is what the messages are
    made of and what the top decoders aim at, so the second line trains the top alone. In training a row loses messages
    at random (``forced_dropout``), never targets. Likelihoods are those of
    :math:`p(z_\sigma) \prod p(z_m|z_\sigma)\,p(x_m|z_m)`, which the loss does not bound.

    Args:
        schema: The modalities.
        latent_dim: Dimensions D of the shared latent.
        bottom_dims: Dimensions D_m of each modality's own latent.
        message_dim: Width P of the messages.
        encoders: For each modality a module from ``(n, *input_shape)``, with a mask of its cells, to ``Encoded``.
        decoders: For each modality its network, from ``(n, D_m)``, with its likelihood.
        messages: For each modality a module from ``(n, D_m)`` to its message ``(n, P)``.
        top_encoder: A module from the mean message ``(n, P)`` to ``Encoded (n, D)``.
        top_decoders: For each modality a module from ``(n, D)`` to the mean of ``p(z_m | z_σ)``, ``(n, D_m)``.
        inputs: For each modality the transform before its encoder.
        modality_weights: Weight r_m of each log-likelihood in the loss; 1 by default.
        beta: Weight β_m of each bottom divergence; 1 by default.
        gamma: Weight γ_m of each ``−log p(z_m | z_σ)`` in the loss; 1 by default.
        top_scale: Standard deviation of each ``p(z_m | z_σ)``; √½ by default.
        beta_top: Weight of the shared latent's divergence.
        dropout: Probability ρ of forced perceptual dropout.
        warmup: Epochs over which all β grow linearly from 0.
        samples: Draws for each row in the loss.
        config: The config the model was built from; None where it was put together by hand.

    References:
        | Leveraging hierarchy in multimodal generative models for effective cross-modality inference
          (Vasco et al., 2022)
        | https://doi.org/10.1016/j.neunet.2021.11.019
        | https://github.com/miguelsvasco/nexus_pytorch
    """

    def __init__(
        self,
        schema: Schema,
        *,
        latent_dim: int,
        bottom_dims: Mapping[str, int],
        message_dim: int,
        encoders: Mapping[str, Encoder],
        decoders: Mapping[str, LikelihoodDecoder],
        messages: Mapping[str, nn.Module],
        top_encoder: nn.Module,
        top_decoders: Mapping[str, nn.Module],
        inputs: Mapping[str, InputTransform],
        modality_weights: Mapping[str, float] | None = None,
        beta: Mapping[str, float] | None = None,
        gamma: Mapping[str, float] | None = None,
        top_scale: Mapping[str, float] | None = None,
        beta_top: float = 1.0,
        dropout: float = 0.2,
        warmup: float = 20.0,
        samples: int = 1,
        config: NexusConfig | None = None,
    ) -> None:
        super().__init__(schema, inputs=inputs, encoders=encoders, decoders=decoders, config=config)
        self.messages = nn.ModuleDict({m: messages[m] for m in schema.names})
        self.top_encoder = top_encoder
        self.top_decoders = nn.ModuleDict({m: top_decoders[m] for m in schema.names})
        self.latent_dim, self.message_dim = latent_dim, message_dim
        self.bottom_dims = {m: bottom_dims[m] for m in schema.names}
        given = {"weights": modality_weights, "beta": beta, "gamma": gamma}
        self.modality_weights, self.beta, self.gamma = (
            {m: (v or {}).get(m, 1.0) for m in schema.names} for v in given.values()
        )
        self.top_log_scale = {m: math.log((top_scale or {}).get(m, math.sqrt(0.5))) for m in schema.names}
        self.beta_top, self.dropout, self.warmup, self.samples = beta_top, dropout, warmup, samples

    def forward(self, batch: Batch, *, epoch: float = math.inf, stage: str | None = None) -> LossOutput:
        """The loss of a batch; its terms, in nats, sum to it."""
        batch = widened(batch, self.schema, next(self.parameters()))
        grown = warmed(1.0, self.warmup, epoch)
        bottom = self.encode_modalities(batch).experts
        z = {m: q.rsample(self.samples) for m, q in bottom.items()}
        top = self._top(z, batch)
        shared = drawn(top)
        terms = {"kl": grown * self.beta_top * top.kl(self.unit()).mean(0)}
        for m, q in bottom.items():
            for name, values in self._packed_terms(m, q, z[m], shared, batch, grown).items():
                terms[f"{name}/{m}"] = spread(values, batch.match(m, None)[0], len(batch)).mean(0)
        return LossOutput.from_rows(terms)

    def encode_modalities(self, batch: Batch) -> Encodings:
        """q(z_m | x_m) of each modality, for the rows that have it."""
        return Encodings(batch, {m: _normal(e) for m, e in self.encode_each(batch).items()})

    def posterior(self, encodings: Encodings) -> NexusPosterior:
        """Bottom up for what a row has, then top down for what it lacks."""
        return NexusPosterior(self, encodings.experts, encodings.batch)

    def prior(self, encodings: Encodings | None = None) -> NexusPrior:
        """Top down."""
        return NexusPrior(self, None if encodings is None else encodings.batch)

    def decode(self, latents: Mapping[str, Tensor], name: str, context: Tensor | None = None) -> Observation:
        """Decodes a modality from its own latent."""
        observation: Observation = self.decoders[name](latents[f"bottom/{name}"], context)
        return observation

    def shared_given(self, latents: Latents, batch: Batch, kept: Tensor | None = None) -> DiagonalNormal:
        """q(z_σ | bottom latents) of each draw ``(K, N, D)``; the prior where there is no message.

        Args:
            latents: Bottom latents; those of absent modalities are not read.
            batch: The rows.
            kept: Which messages each row uses ``(B, M)``, on the host; all that it has by default.
        """
        kept = batch.observed if kept is None else kept
        parts = [latents] if torch.is_grad_enabled() else list(latents.split(BLOCK))
        encoded = [self._encode_messages(part, batch, kept) for part in parts]
        dim = 0 if latents.K > 1 else 1
        return DiagonalNormal(torch.cat([q.loc for q in encoded], dim), torch.cat([q.log_scale for q in encoded], dim))

    def bottom_given(self, name: str, shared: Tensor) -> DiagonalNormal:
        """p(z_m | z_σ) ``(K, N, D_m)`` for draws of the shared latent ``(K, N, D)``."""
        flat = shared.flatten(0, 1)
        parts = [flat] if torch.is_grad_enabled() else torch.split(flat, BLOCK)
        loc = _unflat(full(torch.cat([self.top_decoders[name](part) for part in parts])), shared)
        return DiagonalNormal(loc, loc.new_full((), self.top_log_scale[name]).expand_as(loc))

    def unit(self, *shape: int, size: int | None = None) -> DiagonalNormal:
        """The standard normal ``(*shape, size)``, of the shared latent's size by default."""
        return DiagonalNormal.unit(*shape, size or self.latent_dim, like=next(self.parameters()))

    def _top(self, z: Mapping[str, Tensor], batch: Batch) -> DiagonalNormal:
        """q(z_σ | messages) of a training batch: nothing flows back into z, and in training rows lose messages."""
        B = len(batch)
        own = {f"bottom/{m}": spread(v.detach(), batch.match(m, None)[0], B) for m, v in z.items()}
        kept = forced_dropout(batch.observed, self.dropout) if self.training else None
        return self.shared_given(Latents(own, B), batch, kept)

    def _packed_terms(
        self, name: str, q: DiagonalNormal, z: Tensor, shared: Tensor, batch: Batch, grown: float
    ) -> dict[str, Tensor]:
        """What a modality adds to the loss of the rows that have it, ``(K, n_m)`` or ``(1, n_m)``."""
        rows = batch.match(name, None)[0]
        observation = self.observe({f"bottom/{name}": z}, name, batch, rows)
        log_p = observation.log_prob(*batch.values(name))
        aim = self.bottom_given(name, at(shared, rows))
        return {
            "reconstruction": -self.modality_weights[name] * log_p,
            "kl": grown * self.beta[name] * q.kl(self.unit(size=self.bottom_dims[name]))[None],
            "top": -self.gamma[name] * aim.log_prob(z.detach()),
        }

    def _encode_messages(self, latents: Latents, batch: Batch, kept: Tensor) -> DiagonalNormal:
        like = next(iter(latents.values.values()))
        K, N = like.shape[:2]
        have = (kept if latents.rows is None else kept[latents.rows]).to(like, non_blocking=True)
        share = have / have.sum(1, keepdim=True).clamp(min=1)
        mean = like.new_zeros(K, N, self.message_dim)
        for i, m in enumerate(batch.names):
            pairs = batch.match(m, latents.rows)[0]
            z = at(latents[f"bottom/{m}"], pairs)
            message = _unflat(full(self.messages[m](z.flatten(0, 1))), z)
            mean = added(mean, pairs, message * at(share[None, :, i, None], pairs))
        q = _normal(self.top_encoder(mean.flatten(0, 1)))
        told = have.any(1)[:, None]
        return DiagonalNormal(_unflat(q.loc, mean).where(told, 0), _unflat(q.log_scale, mean).where(told, 0))


def build(config: NexusConfig, schema: Schema) -> Nexus:
    """A Nexus whose messages are linear and whose top networks are fully connected, with leaky ReLU."""
    dims, hidden = config.each("bottom_dim", schema), config.top_hidden
    parts = build_parts(config, schema, latent_dims=dims)
    return Nexus(
        schema,
        latent_dim=config.latent_dim,
        bottom_dims=dims,
        message_dim=config.message_dim,
        encoders=parts.encoders,
        decoders=parts.decoders,
        messages={m: nn.Linear(D, config.message_dim) for m, D in dims.items()},
        top_encoder=MLPEncoder((config.message_dim,), config.latent_dim, hidden=hidden, activation="leaky_relu"),
        top_decoders={m: _top_decoder(config, D) for m, D in dims.items()},
        inputs=parts.inputs,
        modality_weights=parts.modality_weights,
        beta=config.each("beta", schema),
        gamma=config.each("gamma", schema),
        top_scale=config.each("top_scale", schema),
        beta_top=config.beta_top,
        dropout=config.dropout,
        warmup=config.warmup,
        samples=config.samples,
        config=config,
    )


def _top_decoder(config: NexusConfig, size: int) -> nn.Sequential:
    body, width = layers(config.latent_dim, (*config.top_hidden, config.message_dim), "leaky_relu", False, 0.0)
    return nn.Sequential(*body, nn.Linear(width, size))


def _normal(encoded: Encoded) -> DiagonalNormal:
    return DiagonalNormal(full(encoded.loc), full(encoded.log_scale))


def _unflat(values: Tensor, like: Tensor) -> Tensor:
    """Values ``(K · N, d)`` as ``(K, N, d)``, K and N those of another tensor."""
    return values.view(*like.shape[:2], values.shape[1])
