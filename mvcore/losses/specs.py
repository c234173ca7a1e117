"""Configs and specs of the core's losses."""

from __future__ import annotations

from typing import Any, Literal

from attrs import Attribute, field, frozen

from mvcore.plugins.spec import ComponentSpec, LossConfig, PriorConfig
from mvcore.validators import not_negative, positive

Divergence = Literal["convex", "monte_carlo"]
Bound = Literal["looser", "tight"]


def _cycle(instance: Any, attribute: Attribute[Any], value: float) -> None:
    """Refuses a cycle that is shorter than its warm-up, or has none."""
    if value and not 0 < instance.warmup <= value:
        raise ValueError(f"cycle must be at least as long as warmup, which must be above 0; got {value!r} and "
                         f"{instance.warmup!r}")  # fmt: skip


@frozen(kw_only=True)
class ELBOConfig(LossConfig):
    """The evidence lower bound."""

    beta: float = field(default=1.0, validator=not_negative)
    """Weight β of all divergences."""
    warmup: float = field(default=0.0, validator=not_negative)
    """Epochs over which β grows linearly from 0."""
    cycle: float = field(default=0.0, validator=_cycle)
    """Epochs after which β begins anew at 0 (Fu et al., 2019); 0: never."""
    beta_shared: float = field(default=1.0, validator=not_negative)
    """Weight of the shared latent's divergence, times β."""
    beta_private: float = field(default=1.0, validator=not_negative)
    """Weight of the private latents' divergences, times β."""
    kl: Divergence = "convex"
    """A mixture's divergence: ``convex``, a bound in closed form, or ``monte_carlo``, tighter. Equal if C = 1."""
    samples: int = field(default=1, validator=positive)
    """Draws for each row, or, stratified, for each component."""
    stratified: bool = False
    """Whether every component of a mixture is drawn from, instead of one drawn at random for each row."""

    def refuses_prior(self, prior: PriorConfig) -> str | None:
        """Takes any prior where the divergence is estimated from draws."""
        return None if self.kl == "monte_carlo" else super().refuses_prior(prior)


@frozen(kw_only=True)
class IWAEConfig(LossConfig):
    """The importance-weighted bound."""

    samples: int = field(default=10, validator=positive)
    """Draws K from each component."""
    beta: float = field(default=1.0, validator=not_negative)
    """Weight β of log p(z) − log q(z)."""
    warmup: float = field(default=0.0, validator=not_negative)
    """Epochs over which β grows linearly from 0."""
    cycle: float = field(default=0.0, validator=_cycle)
    """Epochs after which β begins anew at 0 (Fu et al., 2019); 0: never."""
    bound: Bound = "looser"
    """The logarithm is taken within each component (``looser``) or of the whole mixture (``tight``)."""

    def refuses_prior(self, prior: PriorConfig) -> str | None:
        """Takes any prior: its log-density is taken at the draws."""
        return None


@frozen(kw_only=True)
class DReGConfig(IWAEConfig):
    """The importance-weighted bound with the doubly reparametrised gradient; for mixtures it has a bias."""


elbo = ComponentSpec(
    api=1,
    config=ELBOConfig,
    build="mvcore.losses.elbo:build",
    summary="Evidence lower bound",
)
iwae = ComponentSpec(
    api=1,
    config=IWAEConfig,
    build="mvcore.losses.importance:build_iwae",
    summary="Importance-weighted bound",
    paper="https://arxiv.org/abs/1509.00519",
)
dreg = ComponentSpec(
    api=1,
    config=DReGConfig,
    build="mvcore.losses.importance:build_dreg",
    summary="Importance-weighted bound, doubly reparametrised",
    paper="https://arxiv.org/abs/1810.04152",
)
