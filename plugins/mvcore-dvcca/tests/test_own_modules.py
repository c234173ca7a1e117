"""A caller's own encoder is that of the main modality, or it is refused: none is left out in silence."""

from __future__ import annotations

import pytest
from torch import nn

import mvcore
from mvcore.data import Schema

SCHEMA = Schema.from_shapes({"a": (3,), "b": (2,)})


def test_the_encoder_of_the_main_modality_is_the_callers() -> None:
    own = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    model = mvcore.create("dvcca", SCHEMA, modules={"a": (own, None)}, latent_dim=2)
    assert any(part is own for part in model.modules())


@pytest.mark.parametrize("fields", [{"private_dim": 2}, {"posterior.main": "b"}])
def test_an_encoder_that_the_model_has_no_place_for_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(mvcore.DataError, match=r"no place for the encoder of 'a' in modules"):
        mvcore.create("dvcca", SCHEMA, modules={"a": (nn.Linear(3, 4), None)}, latent_dim=2, **fields)
