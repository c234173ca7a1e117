"""DVCCA for mvcore: the shared latent of one main view, which decodes all. Importing this module imports no torch."""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen

from mvcore.losses import ELBOConfig
from mvcore.models import ComposedConfig
from mvcore.plugins import ComponentSpec, LossConfig, ModelFacts, PosteriorConfig
from mvcore.posteriors import PriorExpert


@frozen(kw_only=True)
class MainViewConfig(PosteriorConfig):
    """The posterior of the shared latent given one modality, whatever else a row has."""

    main: str | None = None
    """The main modality; None: the first of the data. Name it where the order of the modalities may change."""

    @property
    def family(self) -> Literal["normal"]:
        """Family of the expert."""
        return "normal"

    @property
    def prior_expert(self) -> PriorExpert:
        """The prior is no expert."""
        return "none"


@frozen(kw_only=True)
class MainViewELBOConfig(ELBOConfig):
    """The evidence lower bound of the rows that have the main modality."""

    partial: Literal["skip", "refuse"] = "skip"
    """Training rows without the main modality, which have no posterior but the prior: ``skip`` leaves them out of the
    loss, a mean over all rows still, and warns where they are more than half; ``refuse`` raises."""

    def refuses(self, model: ComposedConfig) -> str | None:
        """Refuses every posterior but ``main_view``, and to hide modalities from it."""
        if not isinstance(model.posterior, MainViewConfig):
            given = type(model.posterior).__name__
            return f"the loss main_view_elbo is that of the posterior 'main_view'; set it, got {given}"
        if model.modality_dropout:
            return "modality_dropout hides the main modality, the only one that the posterior sees; set it to 0"
        return None


@frozen(kw_only=True)
class DVCCAConfig(ComposedConfig):
    """A shared latent of the main modality; with ``private_dim`` VCCA-private, a latent of each modality beside it."""

    posterior: PosteriorConfig = field(factory=MainViewConfig)
    """The main modality's expert."""
    loss: LossConfig = field(factory=MainViewELBOConfig)
    """The ELBO, of the rows that have the main modality."""

    def __attrs_post_init__(self) -> None:
        """Refuses other posteriors: no encoder but the main modality's gives the shared latent."""
        ComposedConfig.__attrs_post_init__(self)
        if not isinstance(self.posterior, MainViewConfig):
            given = type(self.posterior).__name__
            raise ValueError(f"dvcca has the posterior 'main_view', got {given}; the model 'multimodal' takes any")


spec = ComponentSpec(
    api=1,
    config=DVCCAConfig,
    build="mvcore_dvcca.model:build",
    summary="Deep variational CCA: the latent of one view decodes all (Wang et al., 2016)",
    paper="https://arxiv.org/abs/1610.03454",
    partial_data="Rows that have the main modality train the bound of all that they have; others have no part in the "
    "loss; loss.partial='refuse' raises.",
    facts=ModelFacts(
        kind="encoder of one main modality",
        private="optional",
        likelihood="importance sampling from the main modality's posterior; from the prior without it",
        subsets="closed form with the main modality; the prior without it",
        cost="1 density",
    ),
)

main_posterior = ComponentSpec(
    api=1,
    config=MainViewConfig,
    build="mvcore_dvcca.main_view:build_posterior",
    summary="The expert of one main modality",
    paper="https://arxiv.org/abs/1610.03454",
)

main_loss = ComponentSpec(
    api=1,
    config=MainViewELBOConfig,
    build="mvcore_dvcca.main_view:build_loss",
    summary="Evidence lower bound of the rows that have the main modality",
    paper="https://arxiv.org/abs/1610.03454",
)
