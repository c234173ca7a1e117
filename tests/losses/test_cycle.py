"""β that begins anew: by hand, in every loss that has it, and never outside of training."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from mvcore.errors import ConfigError
from mvcore.losses import warmed
from mvcore.plugins import Registry
from mvcore.testing import LinearGaussian, small


def test_beta_rises_in_each_cycle() -> None:
    """β = 2 over 3 of 5 epochs: a third of 2 an epoch, at 5 anew."""
    found = [warmed(2.0, 3.0, epoch, 5.0) for epoch in (0, 1, 2, 3, 4, 5, 6, 9.5, 11.5, math.inf)]
    assert found == pytest.approx([0, 2 / 3, 4 / 3, 2, 2, 0, 2 / 3, 2, 1, 2])
    assert warmed(2.0, 3.0, 7) == 2
    assert warmed(2.0, 0.0, 7) == 2


@pytest.mark.parametrize("name", ["elbo", "iwae", "dreg"])
def test_a_loss_at_the_same_place_of_two_cycles_is_the_same(name: str, world: LinearGaussian) -> None:
    fields: dict[str, Any] = {"loss": {"use": name, "warmup": 4.0, "cycle": 10.0}, "modality_dropout": 0.0}
    model, batch, found = small("multimodal", world.schema, **fields), world.sample(9), []
    for epoch in (1.0, 11.0, 6.0, math.inf):
        torch.manual_seed(3)
        found.append(float(model(batch, epoch=epoch).loss.detach()))
    assert found[0] == found[1] != found[2] == found[3]


@pytest.mark.parametrize("fields", [{"cycle": 5.0}, {"cycle": 5.0, "warmup": 6.0}, {"cycle": -1.0, "warmup": 1.0}])
def test_a_cycle_shorter_than_its_warmup_is_refused(fields: dict[str, float]) -> None:
    config = Registry.installed().spec("loss", "elbo").config
    with pytest.raises((ConfigError, ValueError), match="cycle must be at least as long as warmup"):
        config(**fields)  # type: ignore[call-arg]
