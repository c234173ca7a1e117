"""What the ranks of a training draw: each its own noise, and alike what concerns a batch as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import final

import torch
from torch import Tensor

_SHARED: ContextVar[torch.Generator | None] = ContextVar("mvcore_shared_generator", default=None)


def shared_generator() -> torch.Generator:
    """The generator, on the host, of what a loss draws once for a batch, and hence alike on every rank.

    Draws for a row come from torch's global generator, which every rank seeds by itself: with one seed for all, rows on
    different ranks would share their noise, and the gradient's variance would not fall with their number. A draw that
    decides what a whole batch is trained on, such as a random set of modalities, comes from this one::

        size = int(torch.randint(2, M, (), generator=shared_generator()))

    Every rank must draw from it as often. In a training by one process, and outside ``fit``, it is torch's global
    generator.
    """
    return _SHARED.get() or torch.default_generator


@final
class Draws:
    """The generators of one rank, seeded.

    Args:
        seed: The seed of the training: of torch's global generators where there is one rank, else of what all share.
        rank: This rank.
        ranks: How many there are.
    """

    def __init__(self, seed: int, rank: int = 0, ranks: int = 1) -> None:
        self._shared = None if ranks == 1 else torch.Generator().manual_seed(seed)
        torch.manual_seed(seed if ranks == 1 else _seeds(seed, ranks)[rank])

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Inside, ``shared_generator`` is that of the ranks."""
        token = _SHARED.set(self._shared)
        try:
            yield
        finally:
            _SHARED.reset(token)

    def states(self) -> dict[str, Tensor]:
        """The states of the generators on this rank."""
        states = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            states["cuda"] = torch.cuda.get_rng_state()
        return states if self._shared is None else states | {"shared": self._shared.get_state()}

    def restore(self, states: Mapping[str, Tensor]) -> None:
        """Puts the generators back."""
        torch.set_rng_state(states["cpu"])
        if "cuda" in states and torch.cuda.is_available():
            torch.cuda.set_rng_state(states["cuda"])
        if self._shared is not None:
            self._shared.set_state(states["shared"])


def _seeds(seed: int, ranks: int) -> list[int]:
    drawn: list[int] = torch.randint(2**62, (ranks,), generator=torch.Generator().manual_seed(seed)).tolist()
    return drawn
