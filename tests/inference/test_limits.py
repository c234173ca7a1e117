"""Limits of intervals are exact order statistics, and what decodes the draws never sees more than a block."""

from __future__ import annotations

import pytest
import torch

import mvcore
from mvcore.data.dataset import MultimodalDataset
from mvcore.inference import estimators, imputation
from mvcore.inference.predictive import limits, predict, rank


@pytest.mark.parametrize("K", [19, 100, 501])
@pytest.mark.parametrize("ties", [False, True])
def test_limits_are_those_of_a_full_sort(K: int, ties: bool) -> None:
    drawn = torch.randn(K, 7, 3, 2)
    drawn = drawn.round() if ties else drawn
    ordered = drawn.sort(dim=0).values
    for i in (1, rank(0.9, K), K // 2):
        low, high = limits(drawn, i)
        assert torch.equal(low, ordered[i - 1])
        assert torch.equal(high, ordered[-i])
    assert all(limit.shape == (0, 3) for limit in limits(torch.zeros(K, 0, 3), 1))


def partial_rows() -> MultimodalDataset:
    g = torch.Generator().manual_seed(0)
    arrays = {"a": torch.randn(30, 4, generator=g), "b": torch.randn(30, 3, generator=g),
              "c": torch.randint(0, 3, (30, 2), generator=g)}  # fmt: skip
    return mvcore.mcar(MultimodalDataset(arrays, cells={"a": torch.rand(30, 4, generator=g) < 0.8}), 0.4, seed=1)


def test_means_do_not_depend_on_the_block_that_is_decoded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    data = partial_rows()
    model = mvcore.create("multimodal", data, latent_dim=2)
    model.fit_transforms(data)
    found = []
    for block in (1, 64, 10**6):
        monkeypatch.setattr(estimators, "BLOCK", block)
        generator = torch.Generator().manual_seed(3)
        found.append(predict(model, data.batch(), interval=None, K=12, samples=None, generator=generator))
    for m in data.schema.names:
        for other in found[1:]:
            torch.testing.assert_close(other[m].filled, found[0][m].filled)
            torch.testing.assert_close(other[m].probabilities, found[0][m].probabilities)


def test_blocks_of_rows_are_put_together_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imputation, "VALUES", 7 * 20 * 6)  # seven rows of 20 draws of 2 × 3 probabilities
    data = partial_rows()
    model = mvcore.create("multimodal", data, latent_dim=2)
    model.fit_transforms(data)
    out = mvcore.impute(model, data, interval=0.9, K=20, samples=4)
    for m, imputed in out.items():
        x, known = data.batch().values(m)
        have = data.batch().column(m)
        known = torch.ones_like(x, dtype=torch.bool) if known is None else known
        assert imputed.filled.shape == (30, *x.shape[1:])
        assert imputed.samples.shape == (4, 30, *x.shape[1:])
        for value in (imputed.filled, *imputed.samples, *([] if m == "c" else [imputed.low, imputed.high])):
            assert torch.equal(value[have][known], x[known])
        if m != "c":
            assert (imputed.low <= imputed.high).all()
            hidden = ~have
            assert (imputed.low < imputed.high)[hidden].all()


def test_networks_decode_no_more_than_a_block_of_draws_at_once() -> None:
    data = MultimodalDataset({"a": torch.randn(600, 2), "b": torch.randn(600, 2)}, {"b": torch.arange(600) < 5})
    model = mvcore.create("multimodal", data, latent_dim=2)
    model.fit_transforms(data)
    seen: list[int] = []
    model.decoders["b"].network.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    mvcore.impute(model, data, interval=0.9, K=100)
    assert max(seen) <= estimators.BLOCK
    assert sum(seen) == 595 * 100
