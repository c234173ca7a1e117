"""Torch modules of a caller's own in place of a modality's networks, whatever the model."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from math import prod
from typing import Any, final

import torch
from torch import Tensor, nn

from mvcore.arguments import shown
from mvcore.data.schema import ModalitySpec, Schema
from mvcore.distributions.diagonal import full
from mvcore.distributions.encoded import Encoded
from mvcore.errors import DataError
from mvcore.inference.isolation import isolated
from mvcore.nn.mlp import LatentHead, joined
from mvcore.nn.trial import as_module


@final
class Given:
    """The modules that a model is built with.

    Args:
        modules: For each modality a pair of an encoder and a decoder, either of them None for the config's.
        schema: The modalities of the model.

    Raises:
        DataError: If it names other modalities, or holds no pairs of modules.
    """

    def __init__(self, modules: Mapping[str, Any], schema: Schema) -> None:
        if not isinstance(modules, Mapping):
            raise DataError(f"modules must map modalities to pairs (encoder, decoder); got {shown(modules)}.")
        if unknown := [m for m in modules if m not in schema.names]:
            raise DataError(f"modules names {unknown[0]!r}, which is no modality; there are {', '.join(schema.names)}.")
        self.encoders: dict[str, nn.Module] = {}
        self.decoders: dict[str, nn.Module] = {}
        for name, pair in modules.items():
            if not isinstance(pair, (tuple, list)) or len(pair) != 2:
                raise DataError(
                    f"modules[{name!r}] must be a pair (encoder, decoder), either of them None for the default; got "
                    f"{shown(pair)}."
                )
            for kind, part, into in zip(("encoder", "decoder"), pair, (self.encoders, self.decoders), strict=True):
                if part is not None:
                    into[name] = as_module(f"The {kind} of {name!r} in modules", part)

    def described(self) -> list[tuple[str, str]]:
        """What each module is, and the entry-point group that one like it is registered in."""
        parts = {"encoder": self.encoders, "decoder": self.decoders}
        return [
            (f"{type(module).__qualname__}, the {kind} of {m!r},", f"mvcore.{kind}")
            for kind, own in parts.items()
            for m, module in own.items()
        ]

    def check_taken(self, model: nn.Module) -> None:
        """Raises a DataError for a module that the model's builder did not ask for, or put another in the place of."""
        parts, inside = {"encoder": self.encoders, "decoder": self.decoders}, set(map(id, model.modules()))
        left = [f"{kind} of {m!r}" for kind, own in parts.items() for m, part in own.items() if id(part) not in inside]
        if left:
            raise DataError(f"The model has no place for the {left[0]} in modules: it builds its networks itself.")


_given: ContextVar[Given | None] = ContextVar("mvcore_given", default=None)


@contextmanager
def given(modules: Given | None) -> Iterator[None]:
    """Inside, models of this thread or task are built with these modules."""
    token = _given.set(modules)
    try:
        yield
    finally:
        _given.reset(token)


def given_encoder(modality: ModalitySpec, *, latent_dim: int, private_dim: int, context_dim: int) -> Any:
    """The caller's encoder of a modality, as a model calls it; None without one."""
    found = _taken("encoder", modality.name)
    if found is None or _takes(found, ("x", "mask", "context")):
        return found
    return PlainEncoder(found, modality, latent_dim, private_dim, context_dim)


def given_decoder(modality: ModalitySpec, *, n_outputs: int, context_dim: int) -> Any:
    """The caller's decoder of a modality, as a model calls it; None without one."""
    found = _taken("decoder", modality.name)
    if found is None or _takes(found, ("z", "context")):
        return found
    return PlainDecoder(found, (n_outputs, *modality.shape), context_dim)


@final
class PlainEncoder(nn.Module):
    """A network from observations to features ``(n, …)``, and a linear map from these to the latents' parameters.

    Args:
        network: Called with ``x`` alone; unknown cells are 0.
        modality: Its modality.
        latent_dim: Dimensions D of the shared latent.
        private_dim: Dimensions D_m of the private one; 0 for none.
        context_dim: Number of covariates, which join the features.
    """

    def __init__(
        self, network: nn.Module, modality: ModalitySpec, latent_dim: int, private_dim: int, context_dim: int
    ) -> None:
        super().__init__()
        self.network, self.context_dim = network, context_dim
        who = f"The encoder of {modality.name!r} in modules"
        width = _width(who, network, modality.input_shape)
        self.head = LatentHead(width + context_dim, latent_dim, private_dim)

    def forward(self, x: Tensor, mask: Tensor | None = None, context: Tensor | None = None) -> Encoded:
        """Encodes ``x (n, *shape)``."""
        features = full(self.network(x)).flatten(1)
        encoded: Encoded = self.head(joined(features, context, self.context_dim))
        return encoded


@final
class PlainDecoder(nn.Module):
    """A network from latents to as many values as an observation's outputs, brought into their shape.

    Args:
        network: Called with ``z (n, D + D_m + C)`` alone, the covariates behind the latents.
        shape: The shape ``(P, *shape)`` of the outputs.
        context_dim: Number C of covariates.
    """

    def __init__(self, network: nn.Module, shape: tuple[int, ...], context_dim: int) -> None:
        super().__init__()
        self.network, self.shape, self.context_dim = network, shape, context_dim

    def forward(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Decodes ``z (n, D + D_m)``."""
        outputs = self.network(joined(z, context, self.context_dim))
        if isinstance(outputs, Tensor) and prod(outputs.shape[1:]) == prod(self.shape):
            return outputs.reshape(len(z), *self.shape)
        unfit: Tensor = outputs
        return unfit


def _taken(kind: str, name: str) -> nn.Module | None:
    own = _given.get()
    return None if own is None else (own.encoders if kind == "encoder" else own.decoders).get(name)


def _takes(module: nn.Module, arguments: tuple[str, ...]) -> bool:
    signature = inspect.signature(module.forward)
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    variadic = any(p.kind is p.VAR_POSITIONAL for p in signature.parameters.values())
    return not variadic


def _width(who: str, network: nn.Module, shape: tuple[int, ...]) -> int:
    """How many features a network gives for an observation."""
    like = next((p for p in network.parameters() if p.is_floating_point()), torch.zeros(()))
    try:
        with isolated(network, None):
            features = network(like.new_zeros(1, *shape))
    except Exception as cause:  # of whatever a network is made of
        raise DataError(
            f"{who} can't be called with an observation of shape {shape}: {type(cause).__name__}: {cause}. Its forward "
            "takes x alone and gives features, or (x, mask, context) and gives a mvcore.distributions.Encoded."
        ) from cause
    if not isinstance(features, Tensor) or features.ndim < 2:
        got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise DataError(f"{who} must give features of shape (n, …) where its forward takes x alone; it gave {got}.")
    return prod(features.shape[1:])
