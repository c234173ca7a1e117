"""The objective of MVAE: bounds of several subsets of a row's modalities, each network run once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from mvcore.data import ModalitySpec
from mvcore.distributions import Latents
from mvcore.errors import ConfigError
from mvcore.losses import Loss, LossOutput, Pass, warmed
from mvcore.training import shared_generator
from mvcore_mvae import MVAELossConfig


@final
@dataclass(frozen=True)
class _Term:
    """The posterior of one subset, for the rows that have something of it."""

    names: tuple[str, ...]
    rows: Tensor | None  # (n,), on the host; None: all
    z: Tensor  # (K, n, D)
    kl: Tensor  # (n,)


@final
class MVAELoss(nn.Module):
    r"""The sum of the negative bounds of several subsets of a row's modalities.

    .. math:: -\sum_{S \in T} \Big[E_{q_S} \sum_{m \in S} r_m \log p(x_m|z) - \beta KL(q_S\|p)\Big]

    T holds O, all that the row has; each of its modalities alone; and :math:`S_j \cap O` for k subsets :math:`S_j`
    drawn once for a batch, their size uniform in 2 … M − 1, in training only. An empty intersection adds nothing;
    subsets that coincide count each. q_S is the product of the experts of S, and the prior.

    Every modality is encoded once, and decoded once, for all terms together.

    Args:
        unimodal: Whether each modality of a row is a term.
        subsets: Random subsets k.
        beta: β.
        warmup: Epochs over which β grows linearly from 0.
        samples: Draws of each posterior.

    References:
        | Multimodal Generative Models for Scalable Weakly-Supervised Learning (Wu & Goodman, 2018)
        | https://arxiv.org/abs/1802.05335
    """

    def __init__(
        self, *, unimodal: bool = True, subsets: int = 0, beta: float = 1.0, warmup: float = 0.0, samples: int = 1
    ) -> None:
        super().__init__()
        self.unimodal, self.subsets = unimodal, subsets
        self.beta, self.warmup, self.samples = beta, warmup, samples

    def forward(self, p: Pass) -> LossOutput:
        """The loss and its terms, which sum to it, in nats.

        Raises:
            ConfigError: If the posterior is a mixture.
        """
        if p.model.joint_posterior.subsets != "observed":
            raise ConfigError(
                [f"the loss mvae needs the subsets 'observed', the posterior has {p.model.joint_posterior.subsets!r}"]
            )
        terms = [self._term(p, names) for names in self._names(p)]
        rows = {f"reconstruction/{m}": -p.modality_weights[m] * self._scored(p, m, terms) for m in p.batch.names}
        divergence = terms[0].kl.new_zeros(len(p.batch))
        for term in terms:
            if term.rows is None:
                divergence = divergence + term.kl
            else:
                divergence = divergence.index_add(0, term.rows.to(divergence.device), term.kl)
        return LossOutput.from_rows({**rows, "kl": warmed(self.beta, self.warmup, p.epoch) * divergence})

    def _names(self, p: Pass) -> Iterator[tuple[str, ...]]:
        """The subsets T of the batch's modalities."""
        names = p.batch.names
        yield names
        if self.unimodal:
            yield from ((m,) for m in names)
        if self.subsets and p.model.training and len(names) > 2:
            generator = shared_generator()  # the terms are those of the batch, on whatever rank its rows are
            for _ in range(self.subsets):
                size = int(torch.randint(2, len(names), (), generator=generator))
                chosen = torch.randperm(len(names), generator=generator)[:size].tolist()
                yield tuple(names[i] for i in sorted(chosen))

    def _term(self, p: Pass, names: tuple[str, ...]) -> _Term:
        view = p.encodings.only(names)
        rows = view.batch.present()
        # what a row lacks of the subset is no member of the product; a row that has nothing of it is no row of the term
        q = p.model.posterior(view).shared.one_each
        q = q if rows is None else q.take(rows.to(p.batch.device))
        return _Term(names, rows, q.rsample(self.samples), q.kl(p.prior.shared.single))

    def _scored(self, p: Pass, name: str, terms: Sequence[_Term]) -> Tensor:
        """Sum over the terms with the modality of E log p(x_m | z), ``(B,)``; 0 in rows without it."""
        own, every = [term for term in terms if name in term.names], torch.arange(len(p.batch))
        rows = torch.cat([every if term.rows is None else term.rows for term in own])
        latents = Latents({"shared": torch.cat([term.z for term in own], 1)}, len(p.batch), rows=rows)
        view = Pass(p.model, p.batch.only([name]), p.epoch)
        return latents.sum(view.log_likelihoods(latents)[name]) / self.samples


def build(
    config: MVAELossConfig,
    *,
    modalities: Sequence[ModalitySpec],
    latent_dim: int,
    private_dims: Mapping[str, int],
) -> Loss:
    """The loss."""
    return MVAELoss(
        unimodal=config.unimodal,
        subsets=config.subsets,
        beta=config.beta,
        warmup=config.warmup,
        samples=config.samples,
    )
