"""Names of scales, and curves: inverses, slopes and moments are those of calculus and of torch's distributions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, distributions as td

from mvcore.data.curves import Curve, curve_of
from mvcore.data.scalings import NAMES, Scaling, parse, shaped
from mvcore.data.transforms import InputTransform, target_of

CURVES = ["log", "log1p", "logit(0, 1)", "logit(-20, 300)"]


def curve(name: str) -> Curve:
    found = curve_of(parse(name))
    assert found is not None
    return found


def test_names_are_read() -> None:
    assert parse("none") == Scaling(None, None)
    assert parse("standardize") == Scaling(None, "standardize")
    assert parse("log") == Scaling("log", None)
    assert parse("log1p_standardize") == Scaling("log1p", "standardize")
    assert parse("logit(-1, 2.5)") == Scaling("logit", None, -1, 2.5)
    assert parse("logit_channels( 0 , 1e2 )") == Scaling("logit", "channels", 0, 100)
    for name in NAMES:
        if "(" not in name:
            parse(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("logg", "did you mean 'log'"),
        ("logit", "logit\\(low, high\\)"),
        ("logit(1, 0)", "low below high"),
        ("logit(0, 0)", "low below high"),
        ("logit(0, inf)", "two finite numbers"),
        ("logit(a, 1)", "two finite numbers"),
        ("log_minmax", "expected one of none"),
        ("", "expected one of none"),
    ],
)
def test_what_is_no_name_is_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(name)


def test_what_is_no_table_is_standardised_by_channels() -> None:
    assert shaped("log_standardize", (4,)) == "log_standardize"
    assert shaped("log_standardize", (2, 9)) == "log_channels"
    assert shaped("standardize", (3, 8, 8)) == "image"
    assert shaped("log1p_standardize", (2, 9)) == "log1p_standardize"  # counts: each value of its own
    assert shaped("none", (2, 9)) == "none"


@pytest.mark.parametrize("name", CURVES)
def test_the_inverse_undoes_the_curve_and_the_slope_is_its_derivative(name: str) -> None:
    bend = curve(name)
    y = torch.linspace(-4, 4, 101, dtype=torch.float64)
    x = bend.inverse(y).requires_grad_()
    assert bool(bend.holds(x).all())
    image = bend.forward(x)
    torch.testing.assert_close(image, y)
    (slope,) = torch.autograd.grad(image.sum(), x)
    torch.testing.assert_close(bend.log_slope(x), slope.log())
    assert bend.holds(torch.tensor([bend.low, math.nan, bend.inside])).tolist() == [False, False, True]


@pytest.mark.parametrize("name", CURVES)
def test_rounding_leads_to_no_value_outside(name: str) -> None:
    bend = curve(name)
    x = bend.inverse(torch.tensor([-200.0, -50, 50]))
    assert bool(bend.holds(x).all())


@pytest.mark.parametrize("scale", [0.05, 0.5, 1.0, 3.0, 8.0])
@pytest.mark.parametrize("loc", [-3.0, 0.0, 1.5])
def test_the_moments_of_a_logit_normal_are_those_of_a_fine_grid(loc: float, scale: float) -> None:
    t = torch.linspace(-12, 12, 400_001, dtype=torch.float64)
    weight = td.Normal(0.0, 1.0).log_prob(t).exp() * (t[1] - t[0])
    x = 2 + 5 * (loc + scale * t).sigmoid()
    mean = (weight * x).sum()
    spread = (weight * (x - mean).square()).sum().sqrt()
    found = curve("logit(2, 7)").moments(*(torch.tensor(v, dtype=torch.float64) for v in (loc, scale)))
    torch.testing.assert_close(torch.stack(found), torch.stack([mean, spread]), rtol=1e-4, atol=1e-4)


def test_the_moments_of_a_log_normal_are_torchs() -> None:
    loc, scale = torch.randn(5, dtype=torch.float64), torch.rand(5, dtype=torch.float64) + 0.1
    truth = td.LogNormal(loc, scale)
    torch.testing.assert_close(curve("log").moments(loc, scale), (truth.mean, truth.stddev))
    torch.testing.assert_close(curve("log1p").moments(loc, scale), (truth.mean - 1, truth.stddev))


@pytest.mark.parametrize("name", ["log", "log1p", "logit(0, 50)"])
def test_an_input_or_target_is_standardised_after_the_curve(name: str) -> None:
    x = curve(name).inverse(torch.randn(300, 3) + 1)
    known = torch.rand(x.shape) < 0.7
    standard = name.replace("(", "_standardize(") if "(" in name else f"{name}_standardize"
    transform, target = InputTransform((3,), standard, None), target_of((3,), standard)
    assert target is not None
    for part in (transform, target):
        part.fit(lambda: [(x[:100].where(known[:100], 0), known[:100]), (x[100:].where(known[100:], 0), known[100:])])
    y = transform(x.where(known, -1e9), known)  # what stands in unknown cells is outside
    assert not y[~known].any()
    logs = curve(name).forward(x).double()
    mean = torch.stack([logs[:, i][known[:, i]].mean() for i in range(3)])
    spread = torch.stack([logs[:, i][known[:, i]].std(correction=0) for i in range(3)])
    expected: Tensor = ((logs - mean) / spread).float()
    torch.testing.assert_close(y[known], expected[known], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(target(x), expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(target.inverse(target(x)), x, rtol=1e-3, atol=1e-3)
