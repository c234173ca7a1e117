"""Columns that a normal would describe badly: positive, and with a long tail."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from mvcore.data.dataset import MultimodalDataset
from mvcore.data.rows import Rows
from mvcore.data.tables import listed
from mvcore.plugins.spec import ModelConfig

#: Known values that a column needs before its shape is judged.
FEWEST = 50


def warn_of_skew(data: Rows, config: ModelConfig, fields: Mapping[str, Any]) -> None:
    """Warns of positive and skewed columns of modalities that a normal on a linear scale is to describe.

    Args:
        data: The rows that the model is built for; of those that are not in memory nothing is read.
        config: The model's config.
        fields: What its caller said; a modality whose target is among it is left alone.
    """
    if not isinstance(data, MultimodalDataset):
        return
    found = {}
    for name, parts in (getattr(config, "modalities", None) or {}).items():
        if getattr(parts, "target", None) == "standardize" and not _says_target(fields, name):
            found[name] = skewed_columns(data, name)
    if named := {name: columns for name, columns in found.items() if columns}:
        where = "; ".join(f"{listed(columns)} of {name!r}" for name, columns in named.items())
        first = next(iter(named))
        warnings.warn(
            f"Columns are positive and skewed: {where}. A normal on a linear scale imputes negative values there, and "
            f"limits that are too wide. If all columns of {first!r} are positive, say likelihoods={{{first!r}: "
            "'log_normal'} of the data; if not, make a modality of those that are. "
            f"modalities={{{first!r}: {{'target': 'standardize'}}}} keeps the scale, without this warning.",
            UserWarning,
            stacklevel=4,
        )


def _says_target(fields: Mapping[str, Any], name: str) -> bool:
    table = fields.get("modalities")
    parts = table.get(name) if isinstance(table, Mapping) else None
    return f"modalities.{name}.target" in fields or (
        "target" in parts if isinstance(parts, Mapping) else hasattr(parts, "target")
    )


def skewed_columns(data: MultimodalDataset, name: str) -> list[str]:
    """Columns of a table that are positive and skewed: a normal as wide would leave more than 2 % of it below 0.

    That is a mean of less than two standard deviations, and a skewness above 1 that logarithms all but take away; or,
    for a mean of about one, as of an exponential distribution, a skewness above 1.5 that they make smaller. Three times
    its standard error for so many rows is taken off the skewness first.

    Args:
        data: The rows.
        name: A modality of theirs whose values are numbers.
    """
    spec = data.schema[name]
    if len(spec.shape) != 1:
        return []
    names = spec.columns or tuple(f"number {i}" for i in range(spec.size))
    return [names[i] for i, known in _columns(data, name) if _is_skewed(known)]


def _columns(data: MultimodalDataset, name: str) -> Iterator[tuple[int, Tensor]]:
    x, cells = data.batch().values(name)
    for i in range(x.shape[1]):
        yield i, (x[:, i] if cells is None else x[:, i][cells[:, i]]).double()


def _is_skewed(x: Tensor) -> bool:
    if len(x) < FEWEST or bool((x <= 0).any()):
        return False
    surely = _skewness(x) - 3 * math.sqrt(6 / len(x))  # of few rows a skewness is known to about that
    skew, of_logs, width = surely, abs(_skewness(x.log())), float(x.std() / x.mean())
    return (skew > 1 and of_logs < skew / 4 and width > 0.5) or (skew > 1.5 and of_logs < skew and width > 0.9)


def _skewness(x: Tensor) -> float:
    spread = x - x.mean()
    return float(spread.pow(3).mean() / spread.square().mean().clamp(min=1e-300) ** 1.5)
