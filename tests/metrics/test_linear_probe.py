"""The linear probe: it reads what the embedding has, from the rows that have what it is embedded from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mvcore
from mvcore.distributions.encoded import Encoded
from mvcore.errors import NotApplicableError


class Identity(nn.Module):
    """Encodes an observation as itself, so that a row's embedding is the mean of what it has."""

    def forward(self, x: Tensor, mask: Tensor | None = None, context: Tensor | None = None) -> Encoded:
        return Encoded(x, torch.zeros_like(x))


def labelled(n: int, seed: int, **options: Any) -> mvcore.MultimodalDataset:
    """Rows whose modality a tells the label by its first value, and whose modality b does not."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, n)
    a = np.stack([labels * 4.0 - 2 + 0.1 * generator.normal(size=n), generator.normal(size=n)], 1)
    b = 0.01 * generator.normal(size=(n, 2))
    return mvcore.MultimodalDataset({"a": a, "b": b}, labels=labels, **options)


@pytest.fixture
def identity() -> mvcore.MultimodalVAE:
    parts = {f"modalities.{m}.{part}": "none" for m in ("a", "b") for part in ("input", "target")}
    small = {f"modalities.{m}.{part}.hidden": [4] for m in ("a", "b") for part in ("encoder", "decoder")}
    fields = {"latent_dim": 2, "posterior.prior_expert": "none", **parts, **small}
    model = mvcore.create("multimodal", labelled(2, 0).schema, **fields)
    model.encoders.update({"a": Identity(), "b": Identity()})
    return model


def probed(
    model: mvcore.MultimodalVAE, test: mvcore.MultimodalDataset, train: mvcore.MultimodalDataset
) -> dict[str, float]:
    return mvcore.evaluate(model, test, train=train, metrics=["linear_probe"]).under("linear_probe")


def test_a_probe_reads_a_separable_label_and_not_what_is_not_there(identity: mvcore.MultimodalVAE) -> None:
    values = probed(identity, labelled(200, 1), labelled(200, 0))
    assert values["observed"] == values["2_inputs"] == values["given/a"] == 1.0
    assert 0.35 < values["given/b"] < 0.65


def test_a_probe_leaves_out_rows_with_none_of_the_given(identity: mvcore.MultimodalVAE) -> None:
    values = probed(identity, labelled(200, 1, masks={"a": np.arange(200) < 100}), labelled(200, 0))
    assert values["given/a"] == 1.0
    assert 0.6 < values["observed"] < 0.9  # 100 rows are told, 100 are guessed


@pytest.mark.parametrize("part", ["test", "train"])
def test_a_probe_without_labels_says_so(identity: mvcore.MultimodalVAE, part: str) -> None:
    bare = mvcore.MultimodalDataset({"a": np.zeros((3, 2)), "b": np.zeros((3, 2))})
    rows = {"test": labelled(20, 1), "train": labelled(20, 0), part: bare}
    with pytest.raises(NotApplicableError, match=f"the {part} rows have none; give labels="):
        probed(identity, rows["test"], rows["train"])
