"""Rows as plain arrays, to be shipped once for all trials, and back without a copy."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mvcore import config as configs
from mvcore.data.batch import Batch
from mvcore.data.dataset import MultimodalDataset
from mvcore.data.schema import Schema
from mvcore.runs.run import RunData

Packed = dict[str, Any]  #: Arrays and plain values by name.
_TENSORS = ("x", "cells", "context", "size_factors")


def pack(rows: RunData) -> dict[str, Packed]:
    """The training and the validation rows; those to evaluate on in the end are not shipped."""
    parts = {"train": rows.train, "validation": rows.validation}
    return {name: _packed(part) for name, part in parts.items() if part is not None}


def unpack(packed: Mapping[str, Packed]) -> RunData:
    """What ``pack`` packed; the tensors share the memory of the arrays, which nothing writes to."""
    parts = {name: _unpacked(part) for name, part in packed.items()}
    return RunData(train=parts["train"], validation=parts.get("validation"), test=None)


def _packed(data: MultimodalDataset) -> Packed:
    batch = data.batch()
    arrays = {name: {key: v.numpy() for key, v in getattr(batch, name).items()} for name in _TENSORS}
    about = {"observed": batch.observed.numpy(), "labels": data.labels, "ids": data.ids}
    return {**arrays, **about, "schema": configs.unstructure(data.schema)}


def _unpacked(packed: Packed) -> MultimodalDataset:
    parts = {name: {key: shared(array) for key, array in packed[name].items()} for name in _TENSORS}
    batch = Batch(
        parts["x"], shared(packed["observed"]), parts["cells"], context=parts["context"],
        size_factors=parts["size_factors"],
    )  # fmt: skip
    schema = configs.structure_as(Schema, packed["schema"])
    return MultimodalDataset.from_batch(schema, batch, labels=packed["labels"], ids=packed["ids"])


def shared(array: np.ndarray[Any, Any]) -> Tensor:
    """A tensor in the memory of an array; of a read-only one torch warns, for it could be written to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writ", category=UserWarning)
        return torch.from_numpy(array)
