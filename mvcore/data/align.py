"""The one place where rows meet a schema: modalities, columns and categories are matched by name, never by position."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor

from mvcore.data.batch import Batch
from mvcore.data.checks import check_values, is_sound
from mvcore.data.dataset import MultimodalDataset
from mvcore.data.rows import Rows, column
from mvcore.data.schema import CovariateSpec, ModalitySpec, Schema
from mvcore.data.tables import listed, listed_problems
from mvcore.errors import DataError


def aligned(data: Rows, schema: Schema, *, every: bool = False) -> Rows:
    """The rows as a schema has them: its modalities and columns in its order, its codes of categories.

    A modality that the data does not have is there without any row. Columns and categories are matched by their
    names where both sides have names, else by position. A ``MultimodalDataset`` that is in order already comes back
    itself; rows that are read as they are asked for are matched as they are read.

    Args:
        data: The rows.
        schema: The schema, such as a model's.
        every: Whether each modality of the schema must be one of the data's.

    Raises:
        DataError: With all that keeps the rows from fitting, or if the data is no data set.
    """
    if not isinstance(data, Rows):
        raise DataError(f"Expected a data set; got {_described(data)}.{_REMEDY.get(type(data), '')}")
    if every and not set(schema.names) <= set(data.schema.names):
        raise DataError(f"The model has the modalities {schema.names}, the data {data.schema.names}.")
    _raise_all(_differences(data.schema, schema))
    if not isinstance(data, MultimodalDataset):
        return Matched(data, schema)
    if data.schema == schema:
        _check_blocks(data)
        return data
    batch = matched_batch(data.batch(), data.schema, schema)
    return MultimodalDataset.from_batch(schema, batch, labels=data.labels, ids=data.ids)


def _check_blocks(data: MultimodalDataset) -> None:
    """What ``aligned_batch`` raises, found without a copy of all rows."""
    for spec in data.schema:
        for x, known in data.stream(spec.name):
            check_kind(x, spec)
            if not is_sound(x, known, spec.categories):
                check_values(spec.name, *data.batch().values(spec.name), column(data, spec.name), spec.categories)


@final
class Matched:
    """Rows that are matched to a schema as they are read.

    Args:
        rows: The rows, which fit the schema.
        schema: The schema.
    """

    def __init__(self, rows: Rows, schema: Schema) -> None:
        self._rows, self.schema, self.labels, self.ids = rows, schema, rows.labels, rows.ids
        none = torch.zeros(len(rows), dtype=torch.bool)
        columns = [column(rows, m) if m in rows.schema.names else none for m in schema.names]
        self.observed = torch.stack(columns, dim=1)

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, rows: Tensor | None = None) -> Batch:
        """Some of the rows, as one batch."""
        return matched_batch(self._rows.batch(rows), self._rows.schema, self.schema)

    def stream(self, name: str) -> Iterator[tuple[Tensor, Tensor | None]]:
        """The observations of one modality, in blocks."""
        spec = self.schema[name]
        if name not in self._rows.schema.names:
            yield _nothing(spec), None
            return
        for x, cells in self._rows.stream(name):
            values, known, problems = _in_order(x, cells, self._rows.schema[name], spec)
            _raise_all(problems)
            yield values, known

    def stream_context(self) -> Iterator[Mapping[str, Tensor]]:
        """The rows' covariates, in blocks."""
        for context in self._rows.stream_context():
            values, problems = _in_codes(context, self._rows.schema, self.schema)
            _raise_all(problems)
            yield values


def matched_batch(batch: Batch, theirs: Schema, mine: Schema) -> Batch:
    """A batch that fits one schema as another schema has it.

    Raises:
        DataError: With every category that the other schema does not know.
    """
    if theirs == mine:
        return aligned_batch(batch, mine)
    context, problems = _in_codes(batch.context, theirs, mine)
    x, cells = {}, {}
    for spec in mine:
        if spec.name not in batch.x:
            x[spec.name] = _nothing(spec)
            continue
        x[spec.name], known, found = _in_order(*batch.values(spec.name), theirs[spec.name], spec)
        problems += found
        if known is not None:
            cells[spec.name] = known
    _raise_all(problems)
    observed = torch.stack([batch.column(m) for m in mine.names], dim=1)
    fitting = Batch(x, observed, cells, context=context, size_factors=batch.size_factors, device=batch.device)
    return aligned_batch(fitting, mine)


def aligned_batch(batch: Batch, schema: Schema) -> Batch:
    """The batch with its modalities in the order of a schema, which may have more.

    Raises:
        DataError: If it is no batch, has an unknown modality, or observations of another shape or kind, or that no
            model can read.
    """
    if not isinstance(batch, Batch):
        raise DataError(f"Expected a Batch; got {_described(batch)}.{_REMEDY.get(type(batch), '')}")
    if unknown := sorted(set(batch.names) - set(schema.names)):
        known = ", ".join(schema.names)
        raise DataError(f"The batch has the modality {unknown[0]!r}, the model has {known}.", modality=unknown[0])
    for name in batch.names:
        check_kind(batch.x[name], schema[name])
        check_values(name, *batch.values(name), batch.column(name), schema[name].categories)
    order = [m for m in schema.names if m in batch.x]
    if tuple(order) == batch.names:
        return batch
    x = {m: batch.x[m] for m in order}
    return batch.with_values(x, batch.observed[:, [batch.names.index(m) for m in order]], batch.cells)


def as_data(batch: Batch, schema: Schema) -> MultimodalDataset:
    """The rows of a batch as a data set of those modalities of a schema that it has."""
    fitting = aligned_batch(batch, schema)
    return MultimodalDataset.from_batch(Schema(tuple(schema[m] for m in fitting.names), schema.context), fitting)


#: What to pass instead of one of our own.
_REMEDY: dict[type, str] = {
    Batch: " Give the MultimodalDataset that it was taken from, or MultimodalDataset.from_batch(model.schema, batch).",
    MultimodalDataset: " Give data.batch(), or the parts of data.batches(size) one after the other.",
}


def _described(value: Any) -> str:
    kind = type(value).__name__
    return f"a {kind}" if type(value) in _REMEDY else f"{kind}, which is neither a MultimodalDataset nor a Batch"


def _raise_all(problems: Sequence[str]) -> None:
    if problems:
        raise DataError(f"The data does not fit the model: {'; '.join(listed_problems(problems))}.")


def _differences(theirs: Schema, mine: Schema) -> list[str]:
    problems = [f"{m!r} is no modality of the model" for m in theirs.names if m not in mine.names]
    for spec in (m for m in theirs if m.name in mine.names):
        problems += _differing_columns(spec, mine[spec.name])
    return problems + _differing_covariates({c.name: c for c in theirs.context}, {c.name: c for c in mine.context})


def _differing_columns(theirs: ModalitySpec, mine: ModalitySpec) -> list[str]:
    if theirs.columns is None or mine.columns is None or set(theirs.columns) == set(mine.columns):
        same = theirs.shape == mine.shape
        return [] if same else [f"{mine.name!r} has the shape {theirs.shape}, the model was built for {mine.shape}"]
    known, wanted = set(theirs.columns), set(mine.columns)
    lacks = [c for c in mine.columns if c not in known]
    extra = [c for c in theirs.columns if c not in wanted]
    both = {"lacks the columns": lacks, "also has the columns": extra}
    return [f"{mine.name!r} {what} {listed(names)}" for what, names in both.items() if names]


def _differing_covariates(theirs: dict[str, CovariateSpec], mine: dict[str, CovariateSpec]) -> list[str]:
    problems = [f"the model was built for the covariate {c!r}, which the data lacks" for c in mine if c not in theirs]
    problems += [
        f"the data has the covariate {c!r}, which the model was built without" for c in theirs if c not in mine
    ]
    for name in (c for c in mine if c in theirs):
        a, b = mine[name], theirs[name]
        if a.shape != b.shape or (a.categories is None) != (b.categories is None):
            problems.append(f"the covariate {name!r} was {_kind_of(a)} of shape {a.shape}, and is {_kind_of(b)} of "
                            f"shape {b.shape}")  # fmt: skip
    return problems


def _kind_of(spec: CovariateSpec) -> str:
    return "a number" if spec.categories is None else "a category"


def _nothing(spec: ModalitySpec) -> Tensor:
    return torch.zeros(0, *spec.shape, dtype=torch.long if spec.categories else torch.float32)


def _in_order(
    x: Tensor, cells: Tensor | None, theirs: ModalitySpec, mine: ModalitySpec
) -> tuple[Tensor, Tensor | None, list[str]]:
    """A modality's values and known cells, columns in the order of ``mine`` and categories in its codes.

    What of the categories ``mine`` does not know is said in the list.
    """
    names = theirs.category_names
    if theirs.columns is not None and mine.columns is not None and theirs.columns != mine.columns:
        at = {column: i for i, column in enumerate(theirs.columns)}
        order = [at[column] for column in mine.columns]
        x, cells = x[:, order], None if cells is None else cells[:, order]
        names = None if names is None else tuple(names[i] for i in order)
    if names is None or mine.category_names is None or names == mine.category_names:
        return x, cells, []
    x, problems = x.clone(), []
    for i, (own, wanted) in enumerate(zip(names, mine.category_names, strict=True)):
        known = torch.ones_like(x[:, i], dtype=torch.bool) if cells is None else cells[:, i]
        where = f"{mine.name!r}: the column {(mine.columns or range(len(names)))[i]!r}"
        x[:, i], unknown = _recoded(x[:, i].where(known, 0), known, own, wanted, where)
        problems += unknown
    return x, cells, problems


def _in_codes(context: Mapping[str, Tensor], theirs: Schema, mine: Schema) -> tuple[dict[str, Tensor], list[str]]:
    """Covariates with categories in the codes of ``mine``, and what of these it does not know."""
    own, out, problems = {c.name: c.category_names for c in theirs.context}, {}, []
    for spec in (c for c in mine.context if c.name in context):
        out[spec.name] = context[spec.name]
        names = own[spec.name]
        if names is not None and spec.category_names is not None and names != spec.category_names:
            known = torch.ones_like(out[spec.name], dtype=torch.bool)
            where = f"the covariate {spec.name!r}"
            out[spec.name], unknown = _recoded(out[spec.name], known, names, spec.category_names, where)
            problems += unknown
    return out, problems


def _recoded(
    codes: Tensor, known: Tensor, own: Sequence[Any], wanted: Sequence[Any], where: str
) -> tuple[Tensor, list[str]]:
    used = [own[code] for code in codes[known].unique().tolist()]
    unknown = [name for name in used if name not in wanted]
    problem = f"{where} has the unknown categories {listed(unknown)}; known are {listed(wanted, 20)}"
    table = torch.tensor([wanted.index(name) if name in wanted else 0 for name in own], device=codes.device)
    return table[codes] if len(own) else codes, [problem] if unknown else []


def check_kind(x: Tensor, spec: ModalitySpec) -> None:
    """Raises a DataError unless observations ``(n, *shape)`` are of the shape and kind of a modality."""
    if tuple(x.shape[1:]) != spec.shape:
        raise DataError(
            f"Modality {spec.name!r} has observations of shape {tuple(x.shape[1:])}; the model was built for "
            f"{spec.shape}.",
            modality=spec.name,
        )
    if x.is_floating_point() != (spec.categories is None) or x.is_complex() or x.dtype == torch.bool:
        wanted = "floats" if spec.categories is None else f"categories, integers 0 to {spec.categories - 1}"
        kind = str(x.dtype).removeprefix("torch.")
        raise DataError(f"Modality {spec.name!r} must hold {wanted}; got {kind}.", modality=spec.name)
