"""Checks of networks and of likelihoods: shapes, rows that keep apart, and densities with the moments they state."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mvcore.data.schema import ModalitySpec
from mvcore.errors import MvcoreError

if TYPE_CHECKING:
    from mvcore.testing.conformance import Case

#: A table, an image, a signal and a volume.
_SHAPES = ((4,), (1, 8, 8), (2, 9), (1, 6, 5, 7))


def network(case: Case) -> None:
    """An encoder or decoder gives its shapes for n = 0 and more, and what a row gets is what it gets alone."""
    found = 0
    for shape in _SHAPES if case.shapes is None else case.shapes:
        modality = ModalitySpec(name="m", shape=tuple(shape))
        try:
            module, inputs, outputs = _network(case, modality)
        except MvcoreError:
            if case.shapes is not None:
                raise
            continue  # it refuses this shape with an error of ours
        found += 1
        module.eval()
        for n in (0, 1, 5):
            for got, wanted in zip(outputs(module(torch.randn(n, *inputs))), _shapes(case, modality, n), strict=True):
                assert tuple(got.shape) == wanted, f"{n} rows give the shape {tuple(got.shape)}, expected {wanted}"
        x = torch.randn(5, *inputs)
        for whole, alone in zip(outputs(module(x)), outputs(module(x[2:3])), strict=True):
            torch.testing.assert_close(whole[2:3], alone, msg=lambda text: f"a row depends on its neighbours: {text}")
        torch.stack([part.square().sum() for part in outputs(module.train()(x))]).sum().backward()
        missed = [name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()]
        assert not missed, f"no output depends on {missed}"
    assert found, (
        f"it takes none of the shapes {', '.join(map(str, _SHAPES))}; name those that it takes as the suite's shapes"
    )


def _network(case: Case, modality: ModalitySpec) -> tuple[Any, tuple[int, ...], Callable[[Any], list[Tensor]]]:
    sizes: dict[str, Any] = {"modality": modality, "latent_dim": 3, "private_dim": 2, "context_dim": 0}
    if case.kind == "decoder":
        return case.build(**sizes, n_outputs=2), (5,), lambda out: [out]
    return (
        case.build(**sizes), modality.input_shape,
        lambda out: [out.loc, out.log_scale, out.private_loc, out.private_log_scale],
    )  # fmt: skip


def _shapes(case: Case, modality: ModalitySpec, n: int) -> list[tuple[int, ...]]:
    return [(n, 2, *modality.shape)] if case.kind == "decoder" else [(n, 3), (n, 3), (n, 2), (n, 2)]


def moments(case: Case) -> None:
    """Draws of a likelihood have its mean and standard deviation, within five standard errors of 20,000 draws."""
    p, n = _observation(case), 20_000
    torch.manual_seed(1)
    x = p.sample(n).double()
    if p.mean.dim() >= x.dim():  # categories: their frequencies are the probabilities
        x = torch.nn.functional.one_hot(x.long(), p.mean.shape[-2]).movedim(-1, -2).double()
    error = 5 * x.std(0) / n**0.5 + 1e-6
    assert bool(((x.mean(0) - p.mean).abs() <= error).all()), "the mean of the draws is not the mean"
    torch.testing.assert_close(x.std(0), p.stddev.double(), rtol=0.1, atol=1e-2)


def normalised(case: Case) -> None:
    """The probabilities of a likelihood's values sum, or its densities integrate, to one."""
    p = _observation(case)
    torch.manual_seed(1)
    x = p.sample(500)
    if p.mean.dim() >= x.dim():  # categories
        grid, step = torch.arange(p.mean.shape[-2]), 1.0
    elif bool((x == x.floor()).all()):
        grid, step = torch.arange(2.0 if bool((x <= 1).all()) else 400.0), 1.0
    else:
        reach = float((p.mean.abs() + 40 * p.stddev).max())
        grid, step = torch.linspace(-reach, reach, 8_001, dtype=torch.float64), reach / 4_000
    total = sum(p.values_log_prob(value.expand(x.shape[1:])).exp() for value in grid) * step
    torch.testing.assert_close(total, torch.ones_like(total), rtol=1e-3, atol=1e-3)


def _observation(case: Case) -> Any:
    modality = ModalitySpec(name="m", shape=(4,), categories=3 if case.component.endswith("categorical") else None)
    likelihood = case.build(modality=modality).double()
    torch.manual_seed(0)
    return likelihood.requires_grad_(False)(0.5 * torch.randn(2, likelihood.n_outputs, 4, dtype=torch.float64))
