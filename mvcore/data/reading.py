"""How files of tables are written. Imports neither torch nor pandas."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from typing import Any, final

from attrs import Attribute, field, frozen

from mvcore.checked import Checked


def _character(instance: Any, attribute: Attribute[Any], value: str | None) -> None:
    if value is not None and (len(value) != 1 or value.isalnum() or value in "\"'\n\r"):
        raise ValueError(f"{attribute.name} must be one character that is no letter, digit or quote, got {value!r}")


def _encoding(instance: Any, attribute: Attribute[Any], value: str) -> None:
    try:
        codecs.lookup(value)
    except LookupError:
        raise ValueError(f"{attribute.name} must be one that Python has, such as 'cp1252', got {value!r}") from None


@final
@frozen(kw_only=True)
class Reading(Checked):
    """How the files of a folder are written."""

    ids: str | None = None
    """The column of the ids; None: the first."""
    separator: str | None = field(default=None, validator=_character)
    """Between the columns of ``.csv`` files; None: a comma."""
    decimal: str = field(default=".", validator=_character)
    """Before the decimals of a number."""
    thousands: str | None = field(default=None, validator=_character)
    """Between the thousands of a number."""
    encoding: str = field(default="utf-8", validator=_encoding)
    """Of text files."""
    missing: tuple[str, ...] = ()
    """Codes of unknown values, beside nothing at all, NA, NaN, null and the like."""
    sheets: Mapping[str, str] = field(factory=dict)
    """The sheet of a spreadsheet, by the name of the file without its ending; needed where there are several."""

    def __attrs_post_init__(self) -> None:
        """Refuses one character for two things."""
        used = [c for c in (self.separator or ",", self.decimal, self.thousands) if c is not None]
        if self.decimal != "." and self.separator is None and self.decimal == ",":
            raise ValueError("decimal is ',', which separates the columns, too; say separator, such as ';'")
        if len(set(used)) < len(used):
            raise ValueError(
                f"separator, decimal and thousands must differ; got {self.separator or ','!r}, {self.decimal!r} and "
                f"{self.thousands!r}"
            )

    def of_numbers(self) -> dict[str, Any]:
        """Arguments of pandas' readers for the values."""
        return {"decimal": self.decimal, "thousands": self.thousands, "na_values": list(self.missing)}
