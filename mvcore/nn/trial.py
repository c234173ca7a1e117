"""Networks are called once with 0 rows, as a partial batch may, before a model is made of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mvcore.arguments import shown
from mvcore.data.schema import ModalitySpec
from mvcore.distributions.encoded import Encoded
from mvcore.errors import DataError, MvcoreError
from mvcore.inference.isolation import isolated


def as_module(who: str, part: object, arguments: Sequence[str] = ()) -> nn.Module:
    """What was given as an encoder, a decoder or a loss, which torch wants to be a module.

    Raises:
        DataError: If it is none, or can't be called with the arguments that its kind is called with, where these are
            named.
    """
    if not isinstance(part, nn.Module):
        raise DataError(f"{who} must be a torch.nn.Module; got {shown(part)}.")
    if not arguments:
        return part
    try:
        inspect.signature(part.forward).bind(*arguments)
    except TypeError:
        hint = " mask and context are None where all cells are known and where the schema has no covariates."
        raise DataError(
            f"{who}, {type(part).__name__}, can't be called with ({', '.join(arguments)}); give its forward these "
            f"arguments.{hint if 'context' in arguments else ''}"
        ) from None
    return part


def refuse_batch_norm(who: str, module: nn.Module) -> None:
    """Raises a DataError for a module in which a row depends on its neighbours, and 0 or 1 rows fail."""
    for name, part in module.named_modules():
        if isinstance(part, _BatchNorm):
            where = f" ({name})" if name else ""
            raise DataError(
                f"{who} has a {type(part).__name__}{where}: a row would depend on its neighbours, and a batch with no "
                "row of the modality would fail. Use LayerNorm or GroupNorm."
            )


def try_encoder(
    name: str,
    encoder: nn.Module,
    modality: ModalitySpec,
    latent_dim: int,
    private_dim: int,
    context_dim: int = 0,
    like: Tensor | None = None,
) -> None:
    """Raises a DataError if an encoder does not give ``Encoded`` of the right shapes for 0 rows.

    Args:
        name: What the encoder is called in an error.
        encoder: The encoder.
        modality: The modality that it encodes.
        latent_dim: Dimensions D of ``loc``.
        private_dim: Dimensions D_m of ``private_loc``; 0: none.
        context_dim: Number C of covariates; 0: the encoder is told none.
        like: A tensor of the model's precision; by default one of the encoder's.
    """
    refuse_batch_norm(name, encoder)
    like = _like(encoder) if like is None else like
    if like.is_meta:  # without memory there is nothing to call
        return
    x, context = like.new_zeros(0, *modality.input_shape), _context(like, context_dim)
    encoded = _called(name, encoder, lambda: encoder(x, None, context))
    if not isinstance(encoded, Encoded):
        raise DataError(
            f"{name} must return a mvcore.distributions.Encoded(loc, log_scale); it returned {type(encoded).__name__}."
        )
    _expect(name, "loc", encoded.loc, (0, latent_dim))
    _expect(name, "log_scale", encoded.log_scale, (0, latent_dim))
    if private_dim:
        _expect(name, "private_loc", encoded.private_loc, (0, private_dim))
        _expect(name, "private_log_scale", encoded.private_log_scale, (0, private_dim))


def try_decoder(
    name: str,
    network: nn.Module,
    modality: ModalitySpec,
    width: int,
    n_outputs: int,
    context_dim: int = 0,
    like: Tensor | None = None,
) -> None:
    """Raises a DataError if a decoder's network does not give outputs of the right shape for 0 rows.

    Args:
        name: What the network is called in an error.
        network: The network.
        modality: The modality that it decodes.
        width: Dimensions D + D_m of its latents.
        n_outputs: Outputs P of each value, as its likelihood asks for.
        context_dim: Number C of covariates; 0: the network is told none.
        like: A tensor of the model's precision; by default one of the network's.
    """
    refuse_batch_norm(name, network)
    like = _like(network) if like is None else like
    if like.is_meta:
        return
    context = _context(like, context_dim)
    outputs = _called(name, network, lambda: network(like.new_zeros(0, width), context))
    _expect(name, "its output", outputs, (0, n_outputs, *modality.shape))


def _called(name: str, module: nn.Module, call: Callable[[], Any]) -> Any:
    try:
        with isolated(module, None):
            return call()
    except MvcoreError:
        raise
    except Exception as cause:  # of whatever a network is made of
        raise DataError(
            f"{name} can't be called with 0 rows, as a batch in which no row has the modality does: "
            f"{type(cause).__name__}: {cause}."
        ) from cause


def _context(like: Tensor, size: int) -> Tensor | None:
    return like.new_zeros(0, size) if size else None


def _like(module: nn.Module) -> Tensor:
    floats = (p for p in module.parameters() if p.is_floating_point())
    return next(floats, torch.zeros(()))


def _expect(who: str, what: str, value: object, shape: tuple[int, ...]) -> None:
    got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
    if got != shape:
        wanted = ("n", *shape[1:]) if shape else ()
        rows = "; called with n = 0 rows it gave" if shape else "; it gave"
        raise DataError(f"{who} must give {what} of shape {wanted}{rows} {got}.")
