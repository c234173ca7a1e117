"""What the ranks of a training draw: each its own noise, and alike what concerns a batch as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import final

import torch
from torch import Tensor

from mvcore.data.padded import NotCapturableError

_SHARED: ContextVar[torch.Generator | str | None] = ContextVar("mvcore_shared_generator", default=None)


def shared_generator() -> torch.Generator:
    """The generator, on the host, of what a loss draws once for a batch: alike on every rank and in every micro-batch.

    Draws for a row come from torch's global generator, which every rank seeds by itself: with one seed for all, rows on
    different ranks would share their noise, and the gradient's variance would not fall with their number. A draw that
    decides what a whole batch is trained on, such as a random set of modalities, comes from this one::

        size = int(torch.randint(2, M, (), generator=shared_generator()))

    Inside ``fit`` it is seeded by the training's seed and the step; outside it is torch's global generator.
    """
    generator = _SHARED.get()
    if isinstance(generator, str):
        raise NotCapturableError(generator)
    return generator or torch.default_generator


@contextmanager
def no_shared_draws() -> Iterator[None]:
    """Inside, there is no ``shared_generator``: what it draws on the host would be the same in every captured step."""
    token = _SHARED.set("The loss draws on the host, for each batch anew.")
    try:
        yield
    finally:
        _SHARED.reset(token)


@final
class Draws:
    """The generators of one rank, seeded.

    Args:
        seed: The seed of the training.
        rank: This rank.
        ranks: How many there are.
    """

    def __init__(self, seed: int, rank: int = 0, ranks: int = 1) -> None:
        self._seed = seed
        torch.manual_seed(seed if ranks == 1 else _seeds(seed, ranks)[rank])

    @contextmanager
    def shared(self, step: int) -> Iterator[None]:
        """Inside, ``shared_generator`` is that of a step, from its start."""
        token = _SHARED.set(torch.Generator().manual_seed((self._seed * 1_000_003 + step) % 2**63))
        try:
            yield
        finally:
            _SHARED.reset(token)

    def states(self) -> dict[str, Tensor]:
        """The states of the generators on this rank."""
        states = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            states["cuda"] = torch.cuda.get_rng_state()
        return states

    def restore(self, states: Mapping[str, Tensor]) -> None:
        """Puts the generators back."""
        torch.set_rng_state(states["cpu"])
        if "cuda" in states and torch.cuda.is_available():
            torch.cuda.set_rng_state(states["cuda"])


def _seeds(seed: int, ranks: int) -> list[int]:
    drawn: list[int] = torch.randint(2**62, (ranks,), generator=torch.Generator().manual_seed(seed)).tolist()
    return drawn
