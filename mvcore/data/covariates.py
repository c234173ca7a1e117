"""Covariates from a DataFrame, matched by the ids of the rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from attrs import evolve
from torch import Tensor

from mvcore.data import tables
from mvcore.data.schema import CovariateSpec, ModalitySpec, Schema
from mvcore.data.tables import Table, listed


def read_context(
    frame: Any, ids: str | None, names: Any, schema: Schema | None, problems: list[str]
) -> tuple[tuple[CovariateSpec, ...], dict[str, Tensor]]:
    """The covariates of a table, and their values of each row ``(n,)``: numbers, or codes of categories.

    Args:
        frame: The table; None for none.
        ids: The column of the ids; None for the index.
        names: The ids of the rows, in order.
        schema: A schema that the table must fit; None where it describes a new one.
        problems: What is wrong is added to these.
    """
    wanted = () if schema is None else schema.context
    if frame is None or (schema is not None and not wanted):
        if frame is not None:
            problems.append("The model was built without covariates; leave 'context' out")
        elif wanted:
            problems.append(f"'context' is needed, with the covariates {listed(c.name for c in wanted)}")
        return (), {}
    before = len(problems)
    table = _numbered(tables.read("context", frame, ids, problems))
    if len(problems) > before:
        return (), {}
    if table is not None and schema is not None:
        table = tables.fitted(table, _as_modality(wanted), problems)
    if table is None:
        return (), {}
    return (wanted or _described(table)), _values(table, names, problems)


def _numbered(table: Table | None) -> Table | None:
    """The table with its booleans as numbers."""
    if table is None:
        return None
    return evolve(table, kinds=tuple("float" if kind == "bool" else kind for kind in table.kinds))


def _described(table: Table) -> tuple[CovariateSpec, ...]:
    columns = zip(table.columns, table.names, strict=True)
    return tuple(CovariateSpec(name=c, categories=len(own) or None, category_names=own or None) for c, own in columns)


def _as_modality(covariates: Sequence[CovariateSpec]) -> ModalitySpec:
    """The covariates as the columns of a modality, to check another table by."""
    return ModalitySpec(
        name="context",
        shape=(len(covariates),),
        columns=tuple(c.name for c in covariates),
        dtypes=tuple("float" if c.categories is None else "category" for c in covariates),
        category_names=tuple(c.category_names or () for c in covariates),
    )


def _values(table: Table, names: Any, problems: list[str]) -> dict[str, Tensor]:
    at = table.ids.get_indexer(names)
    values, known = table.values(at, np.float64, gaps=True)
    assert known is not None
    bad = (at < 0) | ~known.all(1)
    if bad.any():
        problems.append(
            f"'context' has no complete row for {int(bad.sum())} ids: {listed(names[bad].tolist())}; every row needs "
            "its covariates"
        )
    columns = zip(table.columns, table.kinds, torch.from_numpy(values).T, strict=True)
    return {c: v.to(torch.long if kind == "category" else torch.float32).contiguous() for c, kind, v in columns}
