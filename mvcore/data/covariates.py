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
    frame: Any, ids: str | None, names: Any, schema: Schema | None
) -> tuple[tuple[CovariateSpec, ...], dict[str, Tensor], list[str]]:
    """The covariates of a table, their values of each row ``(n,)``, numbers or codes of categories, and all problems.

    Args:
        frame: The table; None for none.
        ids: The column of the ids; None for the index.
        names: The ids of the rows, in order.
        schema: A schema that the table must fit; None where it describes a new one.
    """
    wanted = () if schema is None else schema.context
    if frame is None:
        needed = f"'context' is needed, with the covariates {listed(c.name for c in wanted)}"
        return (), {}, [needed] if wanted else []
    if schema is not None and not wanted:
        return (), {}, ["The model was built without covariates; leave 'context' out"]
    table, problems = tables.read("context", frame, ids)
    if table is None or problems:
        return (), {}, problems
    table = _numbered(table)
    if schema is not None:
        table, problems = tables.fitted(table, _as_modality(wanted))
    if table is None:
        return (), {}, problems
    values, problems = _values(table, names)
    return (wanted or _described(table)), values, problems


def _numbered(table: Table) -> Table:
    """The table with its booleans as numbers."""
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


def _values(table: Table, names: Any) -> tuple[dict[str, Tensor], list[str]]:
    at = table.ids.get_indexer(names)
    values, known = table.values(at, np.float64, gaps=True)
    assert known is not None
    bad = (at < 0) | ~known.all(1)
    problem = (
        f"'context' has no complete row for {int(bad.sum())} ids: {listed(names[bad].tolist())}; every row needs "
        "its covariates"
    )
    columns = zip(table.columns, table.kinds, torch.from_numpy(values).T, strict=True)
    of = {c: v.to(torch.long if kind == "category" else torch.float32).contiguous() for c, kind, v in columns}
    return of, [problem] if bad.any() else []
