"""Hamiltonian Monte Carlo for many rows and chains at once, each row with a step size of its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from mvcore.distributions import DiagonalNormal
from mvcore_jnf import HMCConfig

#: A rise of the energy, in nats, by which a trajectory counts as divergent (Betancourt, 2017).
DIVERGENT = 1000.0


@final
@dataclass(frozen=True)
class Chains:
    """Draws of Hamiltonian Monte Carlo for R rows, and how it went."""

    draws: Tensor
    """``(K, R, D)``."""
    acceptance: Tensor
    """Mean acceptance probability of each row ``(R,)`` over the steps after the adaptation; NaN if there are none."""
    divergent: Tensor
    """Share of each row's trajectories ``(R,)`` over the same steps that rose by 1000 nats, were not finite or ended
    outside the target's support; they are rejected."""
    step_size: Tensor
    """Adapted step size of each row ``(R,)``, in units of ``scale``."""


@final
@dataclass
class _State:
    z: Tensor
    value: Tensor
    gradient: Tensor


def sample(
    log_density: Callable[[Tensor], Tensor], start: Tensor, scale: Tensor, K: int, settings: HMCConfig
) -> Chains:
    """K draws for each row.

    The target may be known up to a constant. All noise is normal and drawn by one call a step, so a row's chains
    depend on no other row.

    Args:
        log_density: From ``(C, R, D)`` to ``(C, R)``, in nats, differentiable.
        start: Where the C chains of each row start ``(C, R, D)``.
        scale: Rough scales of the target ``(R, D)``: the steps' units.
        K: Draws for each row: one of each chain, then one every ``settings.thin`` steps.
        settings: Numbers of steps, and how the step size adapts.
    """
    adaptation = _DualAveraging(scale.new_full(scale.shape[:1], settings.step_size), settings.acceptance)
    state = _evaluate(log_density, start)
    draws, accepted, divergent = [], [], []
    total = settings.steps + settings.thin * (math.ceil(K / len(start)) - 1)
    for step in range(1, total + 1):
        size = adaptation.current if step <= settings.adapt else adaptation.average
        state, probability, diverged = _step(log_density, state, size, scale, settings.leapfrog)
        if step <= settings.adapt:
            adaptation.update(probability.mean(0))
        else:
            accepted.append(probability.mean(0))
            divergent.append(diverged.to(scale).mean(0))
        if step >= settings.steps and (step - settings.steps) % settings.thin == 0:
            draws.append(state.z)
    unknown = scale.new_full((1, len(scale)), torch.nan)
    rates = [torch.cat([r[None] for r in part] or [unknown]).mean(0) for part in (accepted, divergent)]
    return Chains(torch.cat(draws)[:K], rates[0], rates[1], adaptation.average)


def _step(
    log_density: Callable[[Tensor], Tensor], state: _State, size: Tensor, scale: Tensor, leapfrog: int
) -> tuple[_State, Tensor, Tensor]:
    """The next state, the acceptance probability ``(C, R)`` and which trajectories diverged ``(C, R)``."""
    C, R, D = state.z.shape
    noise = DiagonalNormal.unit(R, D + 2, like=state.z).noise(torch.Size((C, R, D + 2)))
    momentum, chance, jitter = (
        noise[..., :D],
        torch.special.log_ndtr(noise[..., D]),
        torch.special.ndtr(noise[..., D + 1 :]),
    )
    # steps of 0.8 to 1.2 times the size: trajectories of one length may come back to where they started
    lengths = size[None, :, None] * (0.8 + 0.4 * jitter) * scale
    new, end = state, momentum + 0.5 * lengths * state.gradient
    for i in range(leapfrog):
        new = _evaluate(log_density, new.z + lengths * end)
        end = end + (lengths if i < leapfrog - 1 else 0.5 * lengths) * new.gradient
    change = new.value - state.value + 0.5 * (momentum.square() - end.square()).sum(-1)
    change = change.where(change.isfinite(), -math.inf)
    move = chance < change
    kept = [a.where(move.view(C, R, *[1] * (a.ndim - 2)), b) for a, b in zip(_parts(new), _parts(state), strict=True)]
    return _State(*kept), change.clamp(max=0).exp(), change < -DIVERGENT


def _parts(state: _State) -> tuple[Tensor, Tensor, Tensor]:
    return state.z, state.value, state.gradient


def _evaluate(log_density: Callable[[Tensor], Tensor], z: Tensor) -> _State:
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        value = log_density(z)
        (gradient,) = torch.autograd.grad(value.sum(), z)
    return _State(z.detach(), value.detach(), gradient)


@final
class _DualAveraging:
    """Adapts step sizes to an acceptance rate (Hoffman & Gelman, 2014, section 3.2), each row's for itself."""

    def __init__(self, size: Tensor, target: float) -> None:
        self.target, self.centre = target, (10 * size).log()
        self.error, self.log_average, self.count = torch.zeros_like(size), size.log(), 0
        self.current = size

    @property
    def average(self) -> Tensor:
        """The size to go on with."""
        return self.log_average.exp()

    def update(self, acceptance: Tensor) -> None:
        """Takes in the acceptance probability of one step ``(R,)``."""
        self.count += 1
        weight = 1 / (self.count + 10)
        self.error = (1 - weight) * self.error + weight * (self.target - acceptance)
        log_size = self.centre - math.sqrt(self.count) / 0.05 * self.error
        share = self.count**-0.75
        self.log_average = share * log_size + (1 - share) * self.log_average
        self.current = log_size.exp()
