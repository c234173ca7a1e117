"""Views that lack a modality altogether train as rows that lack it."""

from __future__ import annotations

import pytest
import torch

import mvcore
from mvcore.data import Batch, Schema


@pytest.mark.parametrize("hidden", [["b"], ["a", "c"], ["a", "b", "c"]])
def test_a_view_without_modalities_is_a_batch_in_which_no_row_has_them(hidden: list[str]) -> None:
    schema = Schema.from_shapes({"a": (3,), "b": (2,), "c": (4,)})
    torch.manual_seed(0)
    plain = {f"modalities.{m}.{part}": "none" for m in schema.names for part in ("input", "target")}
    model = mvcore.create("nexus", schema, latent_dim=2, **plain).double().eval()
    x = {m.name: torch.randn(6, *m.shape, dtype=torch.float64) for m in schema}
    rows = torch.arange(6)
    batch = Batch.from_dense(x, {"a": rows % 2 > 0, "b": rows % 3 > 0, "c": rows % 2 < 1})
    view = batch.without(hidden)
    kept = torch.tensor([[m not in hidden for m in schema.names]]).expand(6, -1)
    for stage in model.stages():
        losses = []
        for rows_of in (view, batch.keep(kept)):
            torch.manual_seed(1)
            losses.append(model(rows_of, stage=stage.name).loss)
        assert losses[0].isfinite()
        assert torch.equal(*losses)
