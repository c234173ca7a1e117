"""Data sets from AnnData, MuData and torch's map-style data sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mvcore.data.columns import Matrix
from mvcore.data.dataset import MultimodalDataset
from mvcore.data.frames import from_frames
from mvcore.data.obs import context_of, factors_of
from mvcore.data.schema import Schema
from mvcore.data.tables import pandas
from mvcore.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from mudata import MuData
    from torch.utils.data import Dataset


def from_anndata(
    adatas: Mapping[str, AnnData],
    *,
    layers: Mapping[str, str] | None = None,
    likelihoods: Mapping[str, str] | None = None,
    labels: Any = None,
    context: str | Sequence[str] | pd.DataFrame | None = None,
    size_factors: Mapping[str, str | pd.Series] | None = None,
    schema: Schema | None = None,
) -> MultimodalDataset:
    """A data set of AnnData objects, one a modality, matched by ``obs_names``; columns are ``var_names``.

    ``X`` or a layer is read, sparse or dense, from memory or a file, and held dense in float32; NaN is an unknown cell.

    Args:
        adatas: An AnnData for each modality.
        layers: The layer to read of some modalities; of the others ``X`` is read.
        likelihoods: Names of likelihoods, such as ``negative_binomial`` for counts; normal by default.
        labels: One label for each cell as a Series, such as ``adata.obs["cell_type"]``, for evaluation only.
        context: Covariates: names of columns of ``obs``, such as ``"batch"``, or a DataFrame; by default those of the
            schema, if there is one. Text is categories. Modalities that share a cell must agree.
        size_factors: For modalities of counts what each cell's mean is multiplied by: the name of a column of ``obs``,
            ``"totals"`` for the sum of the cell's counts over 10,000, or a Series.
        schema: The schema to fit, as for ``from_frames``.

    Raises:
        DataError: With all that is wrong with the tables.

    Example:
        >>> import anndata, numpy as np, pandas as pd
        >>> rna = anndata.AnnData(np.ones((2, 3)), obs=pd.DataFrame(index=["c1", "c2"]))
        >>> from_anndata({"rna": rna}, likelihoods={"rna": "negative_binomial"}).ids.tolist()
        ['c1', 'c2']
    """
    tables = {m: [adata.obs] if hasattr(adata, "obs") else [] for m, adata in adatas.items()}
    return _joined(adatas, tables, layers=layers, likelihoods=likelihoods,
                   labels=labels, context=context, size_factors=size_factors, schema=schema)  # fmt: skip


def from_mudata(
    mdata: MuData,
    *,
    layers: Mapping[str, str] | None = None,
    likelihoods: Mapping[str, str] | None = None,
    labels: str | None = None,
    context: str | Sequence[str] | pd.DataFrame | None = None,
    size_factors: Mapping[str, str | pd.Series] | None = None,
    schema: Schema | None = None,
) -> MultimodalDataset:
    """A data set of a MuData's modalities, as by ``from_anndata``.

    ``labels`` names a column of ``mdata.obs``; columns that ``context`` and ``size_factors`` name are looked for there
    first, and then in the ``obs`` of the modalities.
    """
    if labels is not None and labels not in mdata.obs:
        raise DataError(f"mdata.obs has no column {labels!r} of labels; it has {', '.join(map(repr, mdata.obs))}.")
    series = None if labels is None else mdata.obs[labels]
    tables = {m: [mdata.obs.loc[mdata.obs.index.isin(adata.obs_names)], adata.obs] for m, adata in mdata.mod.items()}
    return _joined(dict(mdata.mod), tables, layers=layers, likelihoods=likelihoods, labels=series, context=context,
                   size_factors=size_factors, schema=schema)  # fmt: skip


def _joined(
    adatas: Mapping[str, Any],
    tables: Mapping[str, Sequence[Any]],
    *,
    layers: Mapping[str, str] | None,
    likelihoods: Mapping[str, str] | None,
    labels: Any,
    context: Any,
    size_factors: Any,
    schema: Schema | None,
) -> MultimodalDataset:
    """The modalities, with columns of the tables ``obs`` of each."""
    for m in layers or {}:
        if m not in adatas:
            raise DataError(f"layers names {m!r}, which is no modality; there are {', '.join(adatas)}.")
    frames = {m: _frame(m, adata, (layers or {}).get(m)) for m, adata in adatas.items()}
    if context is None and schema is not None:
        context = [covariate.name for covariate in schema.context] or None
    covariates = context_of(context, [obs for each in tables.values() for obs in each])
    factors = factors_of(size_factors, adatas, tables, frames)
    return from_frames(
        frames, likelihoods=likelihoods, labels=labels, context=covariates, size_factors=factors, schema=schema
    )


def from_torch_dataset(
    dataset: Dataset[Mapping[str, Any]],
    *,
    likelihoods: Mapping[str, str] | None = None,
    labels: str | None = None,
) -> MultimodalDataset:
    """A data set, in memory, of a map-style torch data set whose items are dicts of a row's modalities.

    The modalities are in the order of their names, whichever appears first.

    Args:
        dataset: A data set with ``len``; an item gives for each modality a tensor or array of the shape of one
            observation, at least ``(1,)``; a modality that a row does not have is absent from its item, or None.
        likelihoods: Names of likelihoods, as for ``MultimodalDataset``.
        labels: The key of the items under which their label is.

    Raises:
        DataError: If an item is no dict, shapes differ, a row has nothing, or the data set can't be indexed.

    Example:
        >>> items = [{"a": torch.zeros(2), "b": torch.ones(3)}, {"a": torch.ones(2), "b": None}]
        >>> from_torch_dataset(items).observed.tolist()
        [[True, True], [True, False]]
    """
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise DataError(f"A map-style data set has len and items by number; {type(dataset).__name__} has not.")
    items = [_item(number, dataset[number]) for number in range(len(dataset))]
    names = sorted({name for item in items for name in item if name != labels}, key=str)
    if not names:
        raise DataError(f"No item of {len(items)} has a modality; a data set needs at least one row.")
    arrays, masks = {}, {}
    for name in names:
        masks[name] = torch.tensor([name in item for item in items])
        arrays[name] = _stacked(name, [item.get(name) for item in items])
    if labels is not None and any(labels not in item for item in items):
        raise DataError(f"Some items have no {labels!r}, the key of the labels.")
    values = None if labels is None else [_plain(item[labels]) for item in items]
    return MultimodalDataset(arrays, masks, likelihoods=likelihoods, labels=values)


def _frame(name: str, adata: AnnData, layer: str | None) -> Any:
    if layer is not None and layer not in adata.layers:
        raise DataError(f"{name!r} has no layer {layer!r}; it has {', '.join(adata.layers) or 'none'}.", modality=name)
    values = adata.X if layer is None else adata.layers[layer]
    if values is None:
        raise DataError(f"{name!r} has no X; name a layer of it.", modality=name)
    if hasattr(values, "to_memory") and not hasattr(values, "toarray") and (values := values.to_memory()) is None:
        raise DataError(
            f"{name!r} holds its values in a file, which does not give them; give adata.to_memory().", modality=name
        )
    held = values if hasattr(values, "toarray") else np.asarray(values)
    if held.dtype.kind in "fiub":
        return Matrix(values=held, index=adata.obs_names, columns=adata.var_names)
    dense = values.toarray() if hasattr(values, "toarray") else held
    return pandas().DataFrame(dense, index=adata.obs_names, columns=adata.var_names)


def _item(number: int, item: Any) -> dict[str, Any]:
    if not isinstance(item, Mapping):
        raise DataError(f"Item {number} must be a dict of modalities; got {type(item).__name__}.")
    return {name: value for name, value in item.items() if value is not None}


def _stacked(name: str, values: list[Any]) -> Tensor:
    """The observations of one modality ``(n, *shape)``, 0 where a row has none."""
    given = {number: torch.as_tensor(value) for number, value in enumerate(values) if value is not None}
    first = next(iter(given.values()))
    for number, value in given.items():
        if (value.shape, value.dtype) != (first.shape, first.dtype):
            raise DataError(
                f"Modality {name!r} is {first.dtype} of shape {tuple(first.shape)} in its first item, and "
                f"{value.dtype} of shape {tuple(value.shape)} in item {number}.",
                modality=name,
            )
    out = first.new_zeros(len(values), *first.shape)
    out[list(given)] = torch.stack(list(given.values()))
    return out


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) else value
