"""Labels of any kind, some of which may be lacking, as the codes of classes that classifiers and scores work on."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def has_label(labels: Array) -> Array:
    """Which entries ``(n,)`` are labels, and not None, NaN, NaT or NA."""
    return np.array([_is_label(label) for label in labels.tolist()], dtype=bool)


def classes_of(*labels: Array) -> list[Any]:
    """The different labels of arrays of them, sorted; as text where numbers and text are among them."""
    found = {label for each in labels for label in each[has_label(each)].tolist()}
    try:
        return sorted(found)
    except TypeError:
        return sorted(found, key=str)


def codes(labels: Array, classes: list[Any]) -> Array:
    """The position ``(n,)`` of each label among the classes; −1 where it is none of them."""
    position = {label: code for code, label in enumerate(classes)}
    return np.array([position.get(label, -1) if _is_label(label) else -1 for label in labels.tolist()], dtype=int)


def _is_label(label: Any) -> bool:
    # NaN and NaT differ from themselves; NA from pandas, which may not be installed, from nothing
    return label is not None and type(label).__name__ != "NAType" and bool(label == label)
