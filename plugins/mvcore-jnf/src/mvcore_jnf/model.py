"""JNF: a joint VAE, then a normalizing flow for each modality's posterior."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch
from attrs import evolve
from torch import Tensor, nn

from mvcore.build import Parts, build_joint_encoder, build_parts
from mvcore.data import Batch, Schema
from mvcore.distributions import Latents
from mvcore.errors import DataError
from mvcore.inference import Encodings, log_likelihoods
from mvcore.losses import LossOutput, check_pairs, multiset_correlation, warmed
from mvcore.models import JointModel, Stage, without_gradient
from mvcore.nn import JointEncoder
from mvcore_jnf import JNFConfig
from mvcore_jnf.embedding import EmbeddedEncoder, embedded
from mvcore_jnf.flows import ConditionalFlow, FlowDensity
from mvcore_jnf.posterior import Component, RowMixture, SubsetPosterior


@final
class JNF(JointModel):
    r"""Joint normalizing flows: a joint encoder :math:`q(z|X)`, and a flow :math:`q_m(z|x_m)` for each modality.

    The stage ``joint`` minimises :math:`-E_{q(z|X)} \sum_m r_m \log p(x_m|z) + \beta KL(q(z|X)\|p)` on complete rows,
    the stage ``flows`` then :math:`-\sum_m E_{q(z|X)} \log q_m(z|x_m)`, joint encoder and decoders frozen. In both, a
    row that has O, but not all, takes, in place of the paper, which has no such rows,

    .. math::
        \frac{1}{|O|} \sum_{m \in O} -E_{q_m}\Big[\sum_{n \in O} r_n \log p(x_n|z)
        + \beta \log\frac{p(z)}{q_m(z|x_m)}\Big],

    the mean of \|O\| negative bounds of :math:`\log p(x_O)` (for β = r = 1). With ``dcca`` a stage of that name comes
    first, which maximises the multiset canonical correlation of embeddings of the modalities, over the rows that have
    each pair; the flows are then conditioned on the embeddings, which the other stages leave as they are.

    Args:
        schema: The modalities.
        parts: Their input transforms, encoders, decoders and weights.
        joint_encoder: The joint encoder.
        flows: The flow of each modality.
        config: The numbers.

    References:
        | Improving Multimodal Joint Variational Autoencoders through Normalizing Flows and Correlation Analysis
        | (Senellart et al., 2023), https://arxiv.org/abs/2305.11832
        | Bridging the inference gap in Multimodal Variational Autoencoders (Senellart & Allassonnière, 2025)
        | https://arxiv.org/abs/2502.03952
    """

    config: JNFConfig

    def __init__(
        self,
        schema: Schema,
        *,
        parts: Parts,
        joint_encoder: JointEncoder,
        flows: Mapping[str, ConditionalFlow],
        config: JNFConfig,
    ) -> None:
        super().__init__(
            schema, parts=parts, joint_encoder=joint_encoder, latent_dim=config.latent_dim, partial=config.partial,
            rule="mixture", config=config,
        )  # fmt: skip
        self.flows = nn.ModuleDict({m: flows[m] for m in schema.names})

    def stages(self) -> Sequence[Stage]:
        """First the joint VAE, then the flows; with ``dcca`` before both the embeddings."""
        share, idle = self.config.joint_share, self.config.partial == "refuse"
        own = 0.0 if self.config.dcca is None else self.config.dcca.share
        embedders = [e for e in self.encoders.values() if isinstance(e, EmbeddedEncoder)]
        networks, heads = tuple(e.network for e in embedders), tuple(e.head for e in embedders)
        others = (self.joint_encoder, self.decoders, self.flows, *heads)
        return (
            *((Stage("dcca", own, frozen=others),) if embedders else ()),
            Stage("joint", (1 - own) * share, frozen=(self.encoders, self.flows) if idle else networks),
            Stage("flows", (1 - own) * (1 - share), frozen=(self.joint_encoder, self.decoders, *networks)),
        )

    def check_training(self, observed: Tensor) -> None:
        """As of any joint model; with ``dcca`` a DataError, too, if no two modalities share enough rows."""
        super().check_training(observed)
        if self.config.dcca is not None:
            check_pairs(observed, self.schema.names, self.config.dcca.dimensions)

    def forward(
        self, batch: Batch, *, epoch: float = math.inf, stage: Literal["dcca", "joint", "flows"] | str | None = None
    ) -> LossOutput:
        """The loss of a stage, the first by default.

        Raises:
            DataError: If a row lacks a modality and ``partial`` is ``refuse``, or there is no such stage.
        """
        names = [s.name for s in self.stages()]
        if stage not in (None, *names):
            raise DataError(f"This JNF has the stages {' and '.join(map(repr, names))}, not {stage!r}.")
        batch = self.widened(batch)
        self.check_rows(batch.observed)
        if (stage or names[0]) == "dcca":
            return self._dcca_loss(batch)
        if stage == "flows":
            with without_gradient(self.joint_encoder, self.decoders):
                return self._flows_loss(batch)
        return self._joint_loss(batch, warmed(self.config.beta, self.config.warmup, epoch))

    def encode_modalities(self, batch: Batch) -> Encodings:
        """Encodes each modality once, and the complete rows jointly."""
        experts = {m: self.flows[m](encoded) for m, encoded in self.encode_each(batch).items()}
        joint = self.encode_jointly(batch) if set(batch.names) == set(self.schema.names) else None
        return Encodings(batch, experts, joint)

    def posterior(self, encodings: Encodings) -> SubsetPosterior:
        """The joint posterior of complete rows, the flow of single modalities, a product of flows of other subsets."""
        return SubsetPosterior(self.proposal(encodings), self.config.hmc, self.config.point_draws)

    def proposal(self, encodings: Encodings) -> RowMixture:
        """The posterior, but for rows whose posterior is a product of flows: for these the mixture of the flows."""
        batch, prior = encodings.batch, self.latent_prior().components[0]
        whole = batch.observed.all(1) if encodings.joint is not None else torch.zeros(len(batch), dtype=torch.bool)
        components = [] if encodings.joint is None else [Component(encodings.joint, whole.nonzero().squeeze(1))]
        for m in batch.names:
            kept = ~whole[batch.column(m)]
            index = kept.nonzero().squeeze(1)
            rows = batch.column(m).nonzero().squeeze(1)[index]
            components.append(Component(encodings.experts[m].take(index.to(batch.device)), rows))
        nothing = (~batch.observed.any(1) & ~whole).nonzero().squeeze(1)
        components.append(Component(prior.expand(len(nothing)), nothing))
        return RowMixture([c for c in components if len(c.rows)], len(batch), prior.loc)

    def embeddings(self, batch: Batch) -> dict[str, Tensor]:
        """What deep CCA trains: the embedding of each modality ``(n_m, E)``, of the rows that have it."""
        found = {}
        for m in batch.names:
            encoder, (x, known) = self.encoders[m], batch.values(m)
            assert isinstance(encoder, EmbeddedEncoder)
            context = self.context_of(batch, batch.match(m, None)[0])
            found[m] = encoder.embed(self.inputs[m](x, known), known, context)
        return found

    def _dcca_loss(self, batch: Batch) -> LossOutput:
        assert self.config.dcca is not None
        agreement = multiset_correlation(self.embeddings(batch), batch, ridge=self.config.dcca.ridge)
        return LossOutput(-agreement, {"correlation": -agreement.detach()})

    def _joint_loss(self, batch: Batch, beta: float) -> LossOutput:
        whole, K = batch.observed.all(1), self.config.samples
        q = self.encode_jointly(batch)
        kl = q.kl(self.latent_prior().components[0])
        draws = [_Draws(whole.nonzero().squeeze(1), q.rsample(K), kl.expand(K, -1))]
        if self.config.partial == "mixture":
            partial = batch.select(~whole)
            encoded = self.encode_each(partial)
            flows = {m: self.flows[m](encoded[m]) for m in partial.names}
            draws += self._surrogate_draws(partial, flows, (~whole).nonzero().squeeze(1))
        return LossOutput.from_rows(self._bounds(batch, draws, beta))

    def _flows_loss(self, batch: Batch) -> LossOutput:
        whole = batch.observed.all(1)
        encodings = self.encode_modalities(batch)
        z, flows = encodings.joint.rsample(self.config.samples), encodings.experts
        rows = {}
        for m in batch.names:
            complete, index = _positions(batch, m, whole)
            fit = -flows[m].take(index).log_prob(z).mean(0)
            rows[f"flow/{m}"] = fit.new_zeros(len(batch)).index_copy(0, complete.to(fit.device), fit)
        if self.config.partial == "mixture":
            partial = {m: flows[m].take(_positions(batch, m, ~whole)[1]) for m in batch.names}
            draws = self._surrogate_draws(batch.select(~whole), partial, (~whole).nonzero().squeeze(1))
            rows |= self._bounds(batch, draws, self.config.beta)
        return LossOutput.from_rows(rows)

    def _surrogate_draws(self, partial: Batch, flows: Mapping[str, FlowDensity], rows: Tensor) -> Iterator[_Draws]:
        """Draws of the flow of each modality of each partial row; ``rows`` are those rows in the whole batch."""
        prior = self.latent_prior().components[0]
        for m in partial.names:
            z, log_q = flows[m].rsample_and_log_prob(self.config.samples)
            own = partial.column(m)
            counts = partial.observed[own].sum(1)
            yield _Draws(rows[own], z, log_q - prior.log_prob(z), counts)

    def _bounds(self, batch: Batch, draws: Iterable[_Draws], beta: float) -> dict[str, Tensor]:
        """Reconstruction terms and divergence ``(B,)`` of each row's bounds."""
        draws = list(draws)
        counts = torch.cat([torch.ones_like(d.rows) if d.counts is None else d.counts for d in draws])
        z, divergence = torch.cat([d.z for d in draws], 1), torch.cat([d.divergence for d in draws], 1)
        weight = -counts.to(z).log()
        latents = Latents({"shared": z}, len(batch), rows=torch.cat([d.rows for d in draws]), log_weight=weight)
        scored = log_likelihoods(self, batch, latents)
        rows = {f"reconstruction/{m}": -self.modality_weights[m] * latents.mean(v) for m, v in scored.items()}
        return {**rows, "kl": beta * latents.mean(divergence)}


@final
@dataclass(frozen=True)
class _Draws:
    """Draws of one density for some rows."""

    rows: Tensor
    z: Tensor  # (K, n, D)
    divergence: Tensor  # (K, n): KL(q‖p), or log q(z) − log p(z)
    counts: Tensor | None = None  # (n,): how many densities the row has


def build(config: JNFConfig, schema: Schema) -> JNF:
    """A JNF from its config."""
    parts = build_parts(config, schema)
    if config.dcca is not None:
        parts = evolve(parts, encoders=embedded(config, config.dcca, schema))
    flow = config.flow
    flows = {
        m: ConditionalFlow(config.latent_dim, kind=flow.kind, transforms=flow.transforms, hidden=flow.hidden)
        for m in schema.names
    }
    return JNF(
        schema,
        parts=parts,
        joint_encoder=build_joint_encoder(config, schema, config.joint_hidden),
        flows=flows,
        config=config,
    )


def _positions(batch: Batch, name: str, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The rows with a modality that a mask ``(B,)`` allows, on the host, and where they stand in its packed values."""
    own = mask[batch.column(name)].nonzero().squeeze(1)
    return batch.column(name).nonzero().squeeze(1)[own], own.to(batch.device)
