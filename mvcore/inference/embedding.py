"""Posterior summaries of each row of a data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mvcore import arguments
from mvcore.arguments import shown
from mvcore.data.rows import Rows, batches
from mvcore.data.tables import index_of, pandas
from mvcore.distributions.joint import JointDistribution
from mvcore.distributions.latents import Latents
from mvcore.distributions.points import check_density
from mvcore.distributions.protocols import LatentDistribution
from mvcore.errors import DataError
from mvcore.inference.finite import check_answers
from mvcore.inference.imputation import checked
from mvcore.inference.isolation import isolated

if TYPE_CHECKING:
    from mvcore.models.base import Model

#: Draws that a standard deviation is estimated from where the posterior has none in closed form.
DRAWS = 500


def embed(
    model: Model,
    data: Rows,
    *,
    given: Iterable[str] | None = None,
    std: bool = False,
    private: bool = False,
    seed: int = 0,
    batch_size: int = 512,
) -> Any:
    """The posterior mean of the latents of each row of the data.

    Args:
        model: A trained model.
        data: Rows with any pattern of observed modalities.
        given: The modalities to condition on, of what each row has; all by default. A row without any gets the prior.
        std: Whether to give the posterior's standard deviation of each dimension, too: in closed form, or, where there
            is none, from 500 draws.
        private: Whether to give the latents beside the shared one, too, such as private ones; those of a modality that
            a row lacks are the prior's.
        seed: Seed of the draws of models whose summaries are estimates.
        batch_size: Rows of a block.

    Returns:
        A DataFrame where the data has ids, its columns ``z0``, ``z1``, … of the shared latent, ``private/labs/0``, … of
        the private ones, and the same with ``_std`` behind each; else a tensor ``(n, D)`` of these columns.

    Raises:
        DataError: If the data does not fit the model, ``given`` names no modalities of it, or private latents are asked
            of a model that has none.
        MissingExtraError: If the data has ids, but there is no pandas.
    """
    data, batch_size = checked(model, data), arguments.count("batch_size", batch_size)
    for name, flag in {"std": std, "private": private}.items():
        if not isinstance(flag, bool):
            raise DataError(f"{name} must be True or False; got {shown(flag)}.")
    names = _latents(model, private)
    generator, kept = torch.Generator().manual_seed(arguments.seed("seed", seed)), _given(given)
    parts, first = [], 0
    for batch in batches(data, batch_size):
        told = batch.to(model.device) if kept is None else batch.to(model.device).only(kept)
        with isolated(model, generator):
            points = torch.cat(list(_summaries(model.posterior(model.encode_modalities(told)), names, std)), dim=-1)
        check_answers(model, told, "embedding", [points], first=first, ids=data.ids)
        parts.append(points.cpu())
        first += len(batch)
    values = torch.cat(parts)
    if data.ids is None:
        return values
    sizes = {name: model.latent_shapes[name][0] for name in names}
    columns = [_column(name, d) + suffix for suffix in ("", "_std")[: 1 + std] for name in names for d in
               range(sizes[name])]  # fmt: skip
    return pandas().DataFrame(values.numpy(), index=index_of(data.ids), columns=columns)


def _given(names: Any) -> list[str] | None:
    if names is None:
        return None
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise DataError(f"given must list modalities, such as ['labs']; got {shown(names)}.")
    kept = list(names)
    if not kept:
        raise DataError("given names no modality; without any every row would get the prior.")
    return kept


def _latents(model: Model, private: bool) -> list[str]:
    """The latents to summarise: the shared one, and those of the modalities."""
    if not private:
        return ["shared"]
    names = [name for name in model.latent_shapes if name != "shared"]
    if not names:
        raise DataError("The model has no latents beside the shared one; leave private out, or set private_dim.")
    return ["shared", *names]


def _summaries(posterior: LatentDistribution, names: list[str], std: bool) -> Iterator[Tensor]:
    """Means, then standard deviations, each ``(B, D)``."""
    points = posterior.point()
    yield from (points[name][0] for name in names)
    if std:
        yield from _deviations(posterior, names)


def _deviations(posterior: LatentDistribution, names: list[str]) -> Iterator[Tensor]:
    check_density(posterior)
    if isinstance(posterior, JointDistribution):
        exact = posterior.stddev()
        yield from (exact[name][0] for name in names)
        return
    latents = posterior.draw(DRAWS, "spread")
    for name in names:
        yield _deviation(latents, latents[name])


def _deviation(latents: Latents, values: Tensor) -> Tensor:
    """The standard deviation of draws ``(K, N, D)`` in each row ``(B, D)``."""
    columns = []
    for z in values.unbind(-1):
        centre = latents.per_row(latents.mean(z))
        columns.append(latents.mean((z - centre).square()).sqrt())
    return torch.stack(columns, dim=-1)


def _column(name: str, d: int) -> str:
    return f"z{d}" if name == "shared" else f"{name}/{d}"
