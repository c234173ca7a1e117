"""Transforms: what they fit is what numpy computes, in one pass over any blocks, cells left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from mvcore.data import narrow
from mvcore.data.dataset import MultimodalDataset
from mvcore.data.transforms import Affine, InputTransform
from mvcore.errors import NotFittedError

Block = tuple[Tensor, Tensor | None]


def stream(x: Tensor, cells: Tensor | None, size: int) -> Callable[[], Iterable[Block]]:
    """The rows in blocks; unknown cells are 0, as a data set leaves them."""

    def blocks() -> Iterator[Block]:
        for start in range(0, max(1, len(x)), size):
            known = None if cells is None else cells[start : start + size]
            values = x[start : start + size]
            yield (values if known is None else values.where(known, 0)), known

    return blocks


@pytest.fixture
def x() -> Tensor:
    """101 rows of features on very different scales, one of them far from 0."""
    scales = torch.tensor([1.0, 1e-3, 1e3, 1.0])
    return torch.randn(101, 4) * scales + torch.tensor([0.0, 1.0, -5.0, 1000.0])


@pytest.mark.parametrize("size", [7, 50, 101, 1000])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", ["standardize", "minmax"])
def test_the_fit_is_numpys_for_any_blocks(
    x: Tensor, kind: Literal["standardize", "minmax"], masked: bool, size: int
) -> None:
    cells = torch.rand(x.shape) < 0.6 if masked else None
    affine = Affine((4,), kind)
    affine.fit(stream(x, cells, size))
    known = x.double().numpy() if cells is None else x.double().where(cells, torch.nan).numpy()
    if kind == "standardize":
        loc, scale = np.nanmean(known, 0), np.nanstd(known, 0)
    else:
        loc, scale = np.nanmin(known, 0), np.nanmax(known, 0) - np.nanmin(known, 0)
    np.testing.assert_allclose(affine.loc.numpy(), loc, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(affine.scale.numpy(), scale, rtol=1e-6)
    y = affine(x)
    np.testing.assert_allclose(y.numpy(), (x.numpy() - loc) / scale, rtol=1e-3, atol=1e-3)
    # back within the rounding of float32, relative to the size of the numbers that are added
    assert float(((affine.inverse(y) - x).abs() / (affine.scale + affine.loc.abs())).max()) < 1e-6


def test_standardized_features_have_mean_0_and_deviation_1_and_minmax_spans_0_to_1(x: Tensor) -> None:
    standard, spanned = Affine((4,), "standardize"), Affine((4,), "minmax")
    standard.fit(stream(x, None, 10))
    spanned.fit(stream(x, None, 10))
    y = standard(x)
    torch.testing.assert_close(y.mean(0), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(y.std(0, correction=0), torch.ones(4), atol=1e-4, rtol=0)
    z = spanned(x)
    torch.testing.assert_close(z.amin(0), torch.zeros(4))
    torch.testing.assert_close(z.amax(0), torch.ones(4))


@pytest.mark.parametrize("kind", ["standardize", "minmax"])
def test_a_constant_feature_keeps_scale_1(kind: Literal["standardize", "minmax"]) -> None:
    x = torch.tensor([[0.1, 3.0], [0.1, 4.0], [0.1, 8.0]]).repeat(5, 1)
    affine = Affine((2,), kind)
    affine.fit(stream(x, None, 4))
    assert float(affine.scale[0]) == 1
    torch.testing.assert_close(affine(x)[:, 0], torch.zeros(15))
    assert float(affine.scale[1]) != 1


@pytest.mark.parametrize("kind", ["standardize", "minmax"])
def test_a_feature_or_a_modality_that_nobody_knows_is_left_as_it_is(kind: Literal["standardize", "minmax"]) -> None:
    affine = Affine((2,), kind)
    affine.fit(stream(torch.tensor([[5.0, 1.0], [9.0, 2.0]]), torch.tensor([[False, True], [False, True]]), 1))
    assert (float(affine.loc[0]), float(affine.scale[0])) == (0, 1)
    assert affine.scale.isfinite().all()
    nobody = Affine((2,), kind)
    nobody.fit(stream(torch.zeros(0, 2), None, 5))
    assert nobody.loc.tolist() == [0, 0]
    assert nobody.scale.tolist() == [1, 1]


def test_a_fit_happens_once(x: Tensor) -> None:
    affine = Affine((4,), "standardize")
    affine.fit(stream(x, None, 10))
    before = affine.loc.clone()
    affine.fit(stream(x + 3, None, 10))
    assert torch.equal(affine.loc, before)


def test_a_transform_that_is_not_fitted_says_so_and_a_loaded_one_is_fitted(x: Tensor) -> None:
    fresh, fitted = Affine((4,), "standardize"), Affine((4,), "standardize")
    with pytest.raises(NotFittedError, match="fit_transforms"):
        fresh(x)
    fitted.fit(stream(x, None, 10))
    fresh.load_state_dict(fitted.state_dict())
    assert torch.equal(fresh(x), fitted(x))


def test_the_input_of_categories_is_one_hot_first() -> None:
    transform = InputTransform((2, 3), "none", 4)
    x = torch.tensor([[[0, 1, 2], [3, 0, 1]]])
    y = transform(x)
    assert y.shape == (1, 4, 2, 3)
    assert torch.equal(y.argmax(1), x)
    assert torch.equal(y.sum(1), torch.ones(1, 2, 3))
    known = torch.tensor([[[True, False, True], [True, True, True]]])
    assert torch.equal(transform(x, known).sum(1), known.float())


@pytest.mark.parametrize("kind", ["none", "standardize", "minmax", "log1p", "log1p_standardize"])
def test_an_unknown_cell_is_zero_after_the_input_transform(
    kind: Literal["none", "standardize", "minmax", "log1p", "log1p_standardize"],
) -> None:
    x = torch.tensor([[5.0, 7.0], [6.0, 9.0], [8.0, 2.0]])
    known = torch.tensor([[True, False], [True, True], [False, True]])
    transform = InputTransform((2,), kind, None)
    transform.fit(stream(x, known, 2))
    other = x.where(known, 100.0)  # whatever stands there
    y = transform(x, known)
    assert torch.equal(y, transform(other, known))
    assert y[~known].tolist() == [0, 0]


def test_log1p_standardize_standardizes_the_logarithms() -> None:
    counts = torch.poisson(torch.full((200, 3), 20.0))
    transform = InputTransform((3,), "log1p_standardize", None)
    transform.fit(stream(counts, None, 64))
    logs = np.log1p(counts.double().numpy())
    np.testing.assert_allclose(transform(counts).numpy(), (logs - logs.mean(0)) / logs.std(0), atol=1e-4)
    torch.testing.assert_close(InputTransform((3,), "log1p", None)(counts), counts.log1p())


@pytest.mark.parametrize("kind", ["standardize", "minmax"])
@pytest.mark.parametrize("exponent", [-30, -15, -13, -6, 0, 10, 30])
def test_units_change_nothing_at_any_magnitude(kind: Literal["standardize", "minmax"], exponent: int) -> None:
    """A concentration in fM is as variable as the same in mol/l, and a constant is constant in both."""
    unit = 10.0**exponent
    base = torch.stack([torch.randn(50), 3 + torch.randn(50), torch.full((50,), 0.1)], dim=1).double()
    x = (base * unit).float()
    affine = Affine((3,), kind)
    affine.fit(stream(x, None, 7))
    y = affine(x)
    assert y.isfinite().all()
    spread = y.std(0, correction=0) if kind == "standardize" else y.amax(0) - y.amin(0)
    torch.testing.assert_close(spread, torch.tensor([1.0, 1.0, 0.0]), atol=1e-4, rtol=0)
    torch.testing.assert_close(affine.inverse(y), x, rtol=1e-5, atol=1e-5 * unit)
    # where a decoder gives 0.1 instead of 0, a constant is off by its own size at most
    assert float((affine.inverse(torch.tensor(0.1))[2] - x[0, 2]).abs()) <= max(0.11 * unit, 0.1 if unit == 1 else 0)


@pytest.mark.parametrize("size", [1e-42, 1e-38, 1e-20, 1e30])
def test_what_differs_by_rounding_alone_is_constant_and_small_on_its_scale(size: float) -> None:
    x = torch.full((9, 1), size)
    x[4] = torch.nextafter(x[4], torch.tensor(torch.inf))
    affine = Affine((1,), "standardize")
    affine.fit(stream(x, None, 4))
    assert float(affine.scale) >= torch.finfo(torch.float32).tiny
    assert float(affine(x).abs().max()) < 1


@pytest.mark.parametrize("kind", ["standardize", "minmax"])
def test_rows_looked_at_in_blocks_give_what_all_rows_give(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    values, known = 100 + rng.normal(size=(41, 6)), rng.random((41, 6)) < 0.7
    have = rng.random(41) < 0.8
    data = MultimodalDataset(
        {"x": np.where(known, values, np.nan), "y": np.zeros((41, 1))}, {"x": have}, cells={"x": known}
    )
    seen = np.ma.array(values.astype(np.float32).astype(float), mask=~(known & have[:, None]))
    low, high = seen.min(0), seen.max(0)
    wanted = (seen.mean(0), seen.std(0)) if kind == "standardize" else (low, high - low)
    for block in (6, 30, 2**17):  # a row, five, all
        monkeypatch.setattr(narrow, "VALUES", block)
        affine = Affine((6,), kind)
        affine.fit(lambda: data.stream("x"))
        for found, exact in zip((affine.loc, affine.scale), wanted, strict=True):
            np.testing.assert_allclose(found.numpy(), np.asarray(exact), rtol=1e-6)
