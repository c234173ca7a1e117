"""What a model knows of its data before it sees any: the modalities, their shapes and their likelihoods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from operator import index
from typing import Any, Literal, final

from attrs import field, frozen

from mvcore.checked import Checked
from mvcore.data.names import covariate_name, modality_name
from mvcore.errors import DataError


def _shape(value: Any) -> tuple[int, ...]:
    if hasattr(value, "__index__"):
        raise DataError(f"A shape is a tuple without the rows, such as ({value},); got the number {value!r}.")
    try:
        shape = tuple(index(size) for size in value)
    except TypeError:
        raise DataError(f"A shape is a tuple of integers, such as (3, 28, 28); got {value!r}.") from None
    if not shape or min(shape) < 1:
        raise DataError(f"A shape needs at least one dimension and only positive sizes; got {shape!r}.")
    return shape


@final
@frozen(kw_only=True)
class ModalitySpec(Checked):
    """One modality, without its data."""

    name: str = field(validator=modality_name)
    """The modality's name, the key of its tensors everywhere, and the name of its files."""
    shape: tuple[int, ...] = field(converter=_shape)
    """Shape of one observation, without the rows: ``(76,)`` or ``(3, 28, 28)``."""
    likelihood: str = "normal"
    """Name of the likelihood that fits the modality's values."""
    categories: int | None = None
    """Number of categories of a categorical modality, whose values are 0 .. categories - 1."""
    columns: tuple[str, ...] | None = None
    """Names of the features of a table."""
    dtypes: tuple[Literal["bool", "int", "float", "category"], ...] | None = None
    """What each column of a table holds."""
    category_names: tuple[tuple[str | int | float | bool, ...], ...] | None = None
    """For each column of a table of categories their names, in the order of their codes."""

    def __attrs_post_init__(self) -> None:
        """Refuses columns that do not fit the shape, and categories that do not fit their names."""
        if self.columns is None:
            return
        for what in ("columns", "dtypes", "category_names"):
            each = getattr(self, what)
            if each is not None and (len(self.shape) != 1 or len(each) != self.shape[0]):
                raise DataError(
                    f"Modality {self.name!r} has the shape {self.shape!r}, but {len(each)} {what.replace('_', ' ')}; "
                    "only a table, of shape (features,), has them, one for each feature.",
                    modality=self.name,
                )
        if len(set(self.columns)) < len(self.columns):
            twice = next(c for c in self.columns if self.columns.count(c) > 1)
            raise DataError(f"Modality {self.name!r} has more than one column called {twice!r}.", modality=self.name)

    @property
    def size(self) -> int:
        """Number of values of one observation."""
        product = 1
        for size in self.shape:
            product *= size
        return product

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one observation as an encoder sees it: categories are one-hot, first."""
        return self.shape if self.categories is None else (self.categories, *self.shape)


def _row_shape(value: Any) -> tuple[int, ...]:
    return () if isinstance(value, (tuple, list)) and not value else _shape(value)


@final
@frozen(kw_only=True)
class CovariateSpec(Checked):
    """A covariate: what every row has, and networks are told beside latents and observations."""

    name: str = field(validator=covariate_name)
    """The covariate's name."""
    shape: tuple[int, ...] = field(default=(), converter=_row_shape)
    """Shape of one row's value; ``()`` for a number."""
    categories: int | None = None
    """Number of categories, of values 0 .. categories − 1, which networks see one-hot; None for numbers."""
    category_names: tuple[str | int | float | bool, ...] | None = None
    """The names of the categories of a table's column, in the order of their codes."""

    @property
    def width(self) -> int:
        """Number of values that networks see of one row."""
        return prod(self.shape) * (self.categories or 1)


def _covariates(value: Any) -> tuple[CovariateSpec, ...]:
    covariates = tuple(value)
    names = [c.name for c in covariates]
    if len(set(names)) < len(names):
        raise DataError(f"A schema has each covariate once; got {names!r}.")
    return covariates


def _named(value: Any) -> tuple[ModalitySpec, ...]:
    modalities = tuple(value)
    names = [m.name for m in modalities]
    if not names or len(set(names)) < len(names):
        raise DataError(f"A schema needs at least one modality, each name once; got {names!r}.")
    return modalities


@final
@frozen
class Schema(Checked):
    """The modalities of a data set and its covariates, in their order."""

    modalities: tuple[ModalitySpec, ...] = field(converter=_named)
    context: tuple[CovariateSpec, ...] = field(default=(), converter=_covariates)
    """The covariates that every row has."""

    @classmethod
    def from_shapes(cls, shapes: Mapping[str, Any], likelihoods: Mapping[str, str] | None = None) -> Schema:
        """A schema from ``{"image": (3, 28, 28), …}``; likelihoods default to normal."""
        chosen = dict(likelihoods or {})
        if unknown := set(chosen) - set(shapes):
            raise DataError(f"likelihoods names {min(unknown)!r}, which is no modality; there are {', '.join(shapes)}.")
        return cls(tuple(ModalitySpec(name=n, shape=s, likelihood=chosen.get(n, "normal")) for n, s in shapes.items()))

    @property
    def names(self) -> tuple[str, ...]:
        """The modalities' names, in order."""
        return tuple(m.name for m in self.modalities)

    @property
    def context_dim(self) -> int:
        """Number C of values of covariates that networks see of one row."""
        return sum(c.width for c in self.context)

    def __getitem__(self, name: str) -> ModalitySpec:
        for modality in self.modalities:
            if modality.name == name:
                return modality
        raise DataError(f"There is no modality {name!r}; the schema has {', '.join(self.names)}.")

    def __iter__(self) -> Iterator[ModalitySpec]:
        return iter(self.modalities)

    def __len__(self) -> int:
        return len(self.modalities)
