"""The dropout rates of a sparse model's latent dimensions, and a model without those that are switched off."""

from __future__ import annotations

import torch
from attrs import evolve
from torch import Tensor

from mvcore.errors import ConfigError, NotApplicableError
from mvcore.models import ComposedConfig, Model, MultimodalVAE
from mvcore.plugins import Registry
from mvcore_mcvae.dropout import DropoutExperts

__all__ = ["active", "dropout_rates", "removed"]


def dropout_rates(model: Model) -> Tensor:
    """The dropout rate p = α / (1 + α) of each latent dimension ``(D,)``, near 1 where it tells nothing.

    Raises:
        NotApplicableError: If the model's posterior is not ``variational_dropout``.
    """
    posterior = getattr(model, "joint_posterior", None)
    if not isinstance(posterior, DropoutExperts):
        raise NotApplicableError(
            f"The posterior of this model is {type(posterior).__name__}, which has no dropout rates; build the model "
            "with posterior='variational_dropout' and loss='variational_dropout'."
        )
    return posterior.rates.detach()


def active(model: Model, threshold: float = 0.5) -> tuple[int, ...]:
    """The latent dimensions whose dropout rate is at most ``threshold``; raises as ``dropout_rates`` does."""
    return tuple((dropout_rates(model) <= threshold).nonzero().squeeze(1).tolist())


def removed(model: MultimodalVAE, threshold: float = 0.5) -> MultimodalVAE:
    """A model of the active dimensions alone, in the place of one that decodes the others as 0.

    It has a config of its own, with as many latent dimensions as it has, and trains on, saves and scores as any. The
    given model stays as it is.

    Args:
        model: A trained sparse model whose encoders and decoders are the core's.
        threshold: The highest dropout rate of an active dimension.

    Raises:
        NotApplicableError: If the model's posterior is not ``variational_dropout``.
        ConfigError: If no dimension is active, the model has no config, or a network's latent dimensions can't be told.
    """
    kept, config = active(model, threshold), model.config
    if not kept or not isinstance(config, ComposedConfig):
        rates = [round(p, 3) for p in dropout_rates(model).tolist()]
        raise ConfigError(
            [f"a model built from a config with a dropout rate of at most {threshold!r} is needed; got {rates}"],
            "removed",
        )
    with torch.random.fork_rng(devices=[]):
        smaller: MultimodalVAE = Registry.installed().build(evolve(config, latent_dim=len(kept)), model.schema)
    smaller.to(next(model.parameters()))
    wanted = smaller.state_dict()
    weights = {key: _cut(key, value, wanted[key], model, kept) for key, value in model.state_dict().items()}
    smaller.load_state_dict(weights)
    return smaller.train(model.training)


def _cut(key: str, value: Tensor, like: Tensor, model: MultimodalVAE, kept: tuple[int, ...]) -> Tensor:
    """A weight without what belongs to the dimensions that go."""
    if value.shape == like.shape:
        return value
    D, index = model.latent_dim, torch.tensor(kept, device=value.device)
    kind, name = (*key.split(".", 2), "")[:2]
    private = model.private_dims.get(name, 0)
    if kind == "encoders" and key.endswith(("head.linear.weight", "head.linear.bias")):
        rest = torch.arange(2 * D, 2 * D + 2 * private, device=value.device)
        return _checked(key, value.index_select(0, torch.cat([index, D + index, rest])), like)
    if kind == "decoders" and value.dim() == 2 and value.shape[1] >= D + private:
        rest = torch.arange(D, value.shape[1], device=value.device)  # private latents and covariates follow
        return _checked(key, value.index_select(1, torch.cat([index, rest])), like)
    return _checked(key, value[index] if key == "joint_posterior.log_alpha" else value, like)


def _checked(key: str, value: Tensor, like: Tensor) -> Tensor:
    if value.shape != like.shape:
        raise ConfigError(
            [f"{key}: the latent dimensions of this network can't be told; it would be of the shape "
             f"{tuple(value.shape)}, not {tuple(like.shape)}. Give the modality a network of the core, such as 'mlp'"],
            "removed",
        )  # fmt: skip
    return value
