"""The law of the example; what holds for every model is in its suite."""

import torch

import mvcore
from mvcore.data import Schema
from mvcore.models import Model
from mvcore.testing import LinearGaussian

WORLD = LinearGaussian({"a": 5, "b": 6, "c": 4}, latent_dim=2)


def make(schema: Schema) -> Model:
    torch.manual_seed(0)
    parts = {f"modalities.{m}.{part}": "none" for m in schema.names for part in ("input", "target")}
    return mvcore.create("example", schema, latent_dim=2, **parts).double()


def test_the_barycentre_has_the_mean_location_and_the_mean_scale() -> None:
    model = make(WORLD.schema)
    batch = WORLD.sample(3)
    encodings = model.encode_modalities(batch)
    fused = model.posterior(encodings).shared.components
    experts = encodings.experts.values()
    torch.testing.assert_close(fused.loc[0], sum(e.loc for e in experts) / 3)
    torch.testing.assert_close(fused.scale[0], sum(e.log_scale.exp() for e in experts) / 3)
