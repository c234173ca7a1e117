"""The posterior of one main modality, and the bound of the rows that have it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Literal, final

from torch import Tensor, nn

from mvcore.data import Batch, ModalitySpec
from mvcore.distributions import Diagonal, Encoded, Mixture
from mvcore.errors import ConfigError, DataError
from mvcore.losses import ELBO, LossOutput, Pass
from mvcore.posteriors import JointPosterior
from mvcore_dvcca import MainViewConfig, MainViewELBOConfig


@final
class MainView(JointPosterior):
    r"""The posterior :math:`q(z \mid x_{\text{main}})`, whatever else a row has; the prior in rows without it.

    Args:
        modalities: Names of the model's modalities.
        main: The main one.

    Raises:
        ConfigError: If it is none of them.

    References:
        | Deep Variational Canonical Correlation Analysis (Wang et al., 2016)
        | https://arxiv.org/abs/1610.03454
    """

    def __init__(self, modalities: Sequence[str], main: str) -> None:
        if main not in modalities:
            raise ConfigError([f"main: unknown modality {main!r} (the data has {', '.join(modalities)})"], "posterior")
        super().__init__(modalities)
        self.main = main

    def forward(self, encoded: Mapping[str, Encoded], batch: Batch, prior: Mixture) -> Mixture:
        """The posterior of each row: that of a batch in which there is nothing but the main modality."""
        seen = [self.main] if self.main in batch.names else []
        return super().forward({m: encoded[m] for m in seen}, batch.only(seen), prior)

    def fuse(self, experts: Diagonal, S: Tensor) -> Diagonal:
        """The one expert as it is."""
        return experts[S.argmax(1)]


@final
class MainViewELBO(nn.Module):
    """The negative ELBO of the rows that have the main modality, as a mean over all rows.

    Args:
        elbo: The bound.
        partial: ``skip`` leaves rows out that lack the main modality, ``refuse`` raises.
    """

    def __init__(self, elbo: ELBO, partial: Literal["skip", "refuse"] = "skip") -> None:
        super().__init__()
        self.elbo, self.partial = elbo, partial

    def forward(self, p: Pass) -> LossOutput:
        """The loss and its terms.

        Raises:
            DataError: If a row lacks the main modality and ``partial`` is ``refuse``.
        """
        main = _main(p.model.joint_posterior)
        have = p.batch.column(main)
        self._check(have, main)
        output: LossOutput = self.elbo(Pass(p.model, p.batch.select(have), p.epoch))
        share = int(have.sum()) / max(1, len(have))
        return LossOutput(share * output.loss, {name: share * value for name, value in output.terms.items()})

    def check_training(self, observed: Tensor, posterior: JointPosterior) -> None:
        """Warns if fewer than half of the training rows have the main modality.

        Raises:
            DataError: If none has it, or one lacks it and ``partial`` is ``refuse``.
        """
        main = _main(posterior)
        have = observed[:, posterior.modalities.index(main)]
        self._check(have, main)
        if not bool(have.any()):
            raise DataError(
                f"None of {len(have)} rows has {main!r}, the main modality, which all others are inferred from. Choose "
                "another, posterior={'main': …}."
            )
        if 2 * int(have.sum()) < len(have):
            few = f"Only {int(have.sum())} of {len(have)} rows have {main!r}, the main modality"
            warnings.warn(f"{few}; the others train nothing.", stacklevel=3)

    def _check(self, have: Tensor, main: str) -> None:
        if self.partial == "refuse" and (lacking := int((~have).sum())):
            raise DataError(
                f"{lacking} of {len(have)} rows lack {main!r}, the main modality, which all others are inferred from. "
                "Leave these rows out, choose another main modality, or skip them in training, "
                "loss={'partial': 'skip'}, which is the default."
            )


def _main(posterior: nn.Module) -> str:
    if not isinstance(posterior, MainView):
        raise ConfigError([f"the loss main_view_elbo needs the posterior MainView, got {type(posterior).__name__}"])
    return posterior.main


def build_posterior(
    config: MainViewConfig, *, modalities: Sequence[ModalitySpec], latent_dim: int, private_dims: Mapping[str, int]
) -> MainView:
    """The posterior of the main modality."""
    names = [m.name for m in modalities]
    return MainView(names, config.main or names[0])


def build_loss(
    config: MainViewELBOConfig, *, modalities: Sequence[ModalitySpec], latent_dim: int, private_dims: Mapping[str, int]
) -> MainViewELBO:
    """The bound of the rows that have the main modality."""
    elbo = ELBO(
        beta=config.beta, warmup=config.warmup, beta_shared=config.beta_shared, beta_private=config.beta_private,
        kl=config.kl, samples=config.samples, stratified=config.stratified,
    )  # fmt: skip
    return MainViewELBO(elbo, config.partial)
