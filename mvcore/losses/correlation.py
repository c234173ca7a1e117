"""How much the codes of several modalities agree, up to linear maps: canonical correlation on partial rows."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from mvcore.data.batch import Batch
from mvcore.errors import DataError


def multiset_correlation(codes: Mapping[str, Tensor], batch: Batch, *, ridge: float = 1e-3) -> Tensor:
    r"""The multiset canonical correlation of codes, a scalar within ±D; D, if they are linear maps of each other.

    It is :math:`\sum_d (\rho_d - 1) / (M - 1)` over the D greatest generalised eigenvalues of :math:`C v = \rho B v`,
    with C the covariance of all codes side by side and B its blocks within the modalities, the ridge r added to both.
    For two modalities that is the sum of their canonical correlations; for more it is Kettenring's MAXVAR, which is
    generalised CCA. The best linear encoders therefore reach classical CCA and GCCA.

    On partial rows each pair of modalities is estimated from the rows that have both: with S the covariances (divided
    by the number of rows) of those rows, its block of the whitened C is

    .. math:: (S_{mm} + r I)^{-1/2} S_{mn} (S_{nn} + r I)^{-1/2},

    a contraction whatever the rows, as r keeps what is inverted positive definite. The square roots are taken in the
    basis that whitens all rows of a modality, so that its bases in all pairs agree; for r → 0 invertible affine maps of
    a modality's codes then change nothing on partial rows either. The eigenvalues of blocks of different rows may be
    negative, the greatest never leave 1 ± (M − 1). A pair with D + 1 rows or fewer is left out: their correlations are
    1, whatever the codes. M counts the modalities that have a pair. Without any the value is 0.

    It is no mean over rows: it depends on the batch, and in a training with several processes or micro-batches it is
    that of each part, weighted by its rows.

    Args:
        codes: For each modality of the batch the codes ``(n_m, D)`` of the rows that have it.
        batch: The rows.
        ridge: What is added to the variances, r > 0.

    References:
        | Canonical analysis of several sets of variables (Kettenring, 1971), https://doi.org/10.2307/2334380
        | On Deep Multi-View Representation Learning (Wang et al., 2015), https://proceedings.mlr.press/v37/wangb15.html
    """
    nothing = sum((z.sum() for z in codes.values()), start=torch.zeros((), device=batch.device)) * 0
    with torch.autocast(batch.device.type, enabled=False):
        z = batch.dense([codes[m] for m in batch.names], 0.0).double() if codes else torch.zeros(0, 0, 0)
        D = z.shape[-1]
        pairs = _usable(batch.observed, D)
        if not pairs:
            return nothing
        first, second = torch.tensor(pairs).T
        blocks = _blocks(z, batch.observed.T.to(z), (first, second), ridge)
        values = torch.linalg.eigvalsh(_side_by_side(blocks, pairs, len(z)))
        involved = len(set(first.tolist()) | set(second.tolist()))
        total: Tensor = values[-D:].sum().to(nothing.dtype) / (involved - 1) + nothing
        return total


def check_pairs(observed: Tensor, names: Sequence[str], dimensions: int) -> None:
    """Asks whether training rows ``observed (n, M)`` can tell how codes of D dimensions correlate.

    Warns of each modality that has no pair.

    Raises:
        DataError: If no two modalities are together in more than D + 1 rows.
    """
    least, size = dimensions + 1, len(observed)
    paired = {i for pair in _usable(observed, dimensions) for i in pair}
    if not paired:
        raise DataError(
            f"No two of {', '.join(names)} are together in more than {least} of {size} rows, which the correlation of "
            f"codes with {dimensions} dimensions needs. Give it rows with two modalities, or fewer dimensions."
        )
    for name in (name for i, name in enumerate(names) if i not in paired):
        warnings.warn(
            f"{name!r} is with no other modality in more than {least} of {size} rows; its codes correlate with none.",
            stacklevel=3,
        )


def _usable(observed: Tensor, D: int) -> list[tuple[int, int]]:
    """The pairs of modalities that are together in enough rows, on the host."""
    pairs = combinations(range(observed.shape[1]), 2)
    return [pair for pair in pairs if int(observed[:, list(pair)].all(1).sum()) > D + 1]


def _blocks(z: Tensor, have: Tensor, pairs: tuple[Tensor, Tensor], ridge: float) -> Tensor:
    """The whitened covariance of each pair ``(P, D, D)``, of codes ``(M, B, D)`` and the rows ``(M, B)`` with them."""
    eye = ridge * torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
    own = _centred(z, have)
    basis = _inverse_root(_covariance(own, own, have) + eye)  # (M, D, D)
    first, second = (index.to(z.device) for index in pairs)
    both = have[first] * have[second]
    left, right = (_centred(z[index], both) for index in (first, second))
    roots = []
    for part, index in ((left, first), (right, second)):
        base = basis[index]
        roots.append(_inverse_root(base @ (_covariance(part, part, both) + eye) @ base) @ base)
    return roots[0] @ _covariance(left, right, both) @ roots[1].mT


def _centred(z: Tensor, have: Tensor) -> Tensor:
    """Codes ``(…, B, D)`` without their mean over the rows that count, 0 in the others."""
    mean = (z * have[..., None]).sum(-2, keepdim=True) / have.sum(-1).clamp(min=1)[..., None, None]
    return (z - mean) * have[..., None]


def _covariance(left: Tensor, right: Tensor, have: Tensor) -> Tensor:
    """Covariances ``(…, D, D)`` of centred codes over the rows that count."""
    return left.mT @ right / have.sum(-1).clamp(min=1)[..., None, None]


def _side_by_side(blocks: Tensor, pairs: list[tuple[int, int]], size: int) -> Tensor:
    """The symmetric matrix ``(M D, M D)`` of the blocks between modalities, 0 within: its eigenvalues are ρ − 1."""
    D = blocks.shape[-1]
    empty = blocks.new_zeros(D, D)
    grid = [[empty] * size for _ in range(size)]
    for (i, j), block in zip(pairs, blocks, strict=True):
        grid[i][j], grid[j][i] = block, block.mT
    return torch.cat([torch.cat(row, 1) for row in grid])


class _InverseRoot(torch.autograd.Function):
    """The inverse square root of symmetric positive definite matrices ``(…, D, D)``.

    Its gradient divides by sums of the eigenvalues' roots, where one through eigenvectors would divide by differences,
    which are 0 for codes that are white already.
    """

    @staticmethod
    def forward(ctx: Any, S: Tensor) -> Tensor:
        values, U = torch.linalg.eigh(S)
        # rounding may leave the least eigenvalue of a nearly singular matrix below 0
        roots = values.clamp(min=torch.finfo(S.dtype).tiny).sqrt()
        ctx.save_for_backward(U, roots)
        inverse: Tensor = (U / roots[..., None, :]) @ U.mT
        return inverse

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        U, roots = ctx.saved_tensors
        i, j = roots[..., :, None], roots[..., None, :]
        inner = U.mT @ (0.5 * (gradient + gradient.mT)) @ U
        moved: Tensor = -U @ (inner / (i * j * (i + j))) @ U.mT
        return moved


def _inverse_root(S: Tensor) -> Tensor:
    root: Tensor = _InverseRoot.apply(S)  # type: ignore[no-untyped-call]
    return root
