"""What a saved or shared model says of itself, without a weight loaded or a plugin imported."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from attrs import evolve, frozen

from mvcore.config.reading import JSON_LIMIT, opened, read_bounded
from mvcore.errors import ModelFileError
from mvcore.storage.address import is_address, parse
from mvcore.storage.folder import read_config

if TYPE_CHECKING:
    from mvcore.evaluation.report import Report

_CARD, _WEIGHTS, _REPORT = "README.md", "model.safetensors", "report.json"
_FILES = ("config.json", _WEIGHTS, _CARD, _REPORT)
_CARD_LIMIT = 4 * 2**20  # bytes


@final
@frozen(kw_only=True)
class Inspection:
    """What a model says of itself. Anyone may have written it: nothing of it was checked but its form."""

    where: str
    """The folder, or the address with its commit."""
    config: Mapping[str, Any]
    """The whole of ``config.json``: ``model``, ``schema``, ``requires``, ``training`` and what wrote it."""
    card: str
    """The text of ``README.md``; empty if there is none."""
    sizes: Mapping[str, int]
    """Bytes of each file that a model has."""
    report: Report | None
    """Its evaluation, where it comes with one."""
    unknown: tuple[str, ...] = ()
    """Files that the model may have, but that could not be asked for: there is no network, and they are not cached."""

    @property
    def requires(self) -> tuple[str, ...]:
        """The distributions that it needs beside mvcore."""
        return tuple(self.config["requires"])

    def json(self) -> str:
        """All of it as JSON."""
        report = None if self.report is None else json.loads(self.report.json())
        whole = {
            "where": self.where,
            "sizes": dict(self.sizes),
            "config": self.config,
            "report": report,
            "unknown": self.unknown,
        }
        return json.dumps({**whole, "card": self.card}, indent=1, ensure_ascii=False)


def inspect(
    path: str | os.PathLike[str], *, endpoint: str | None = None, token: str | bool | None = None
) -> Inspection:
    """Reads what a saved or shared model says of itself; of the weights no more than their size.

    Args:
        path: A folder, or a model on the Hub, ``"hf://user/name@revision"``.
        endpoint: As of ``mvcore.load``.
        token: As of ``mvcore.load``.

    Raises:
        HubError: If the Hub has no such model, or does not give it.
        ModelFileError: If it is damaged, or none.
    """
    if is_address(path):
        return _shared(str(path), endpoint, token)
    folder = Path(path)
    config = read_config(folder)
    texts = {name: _content(folder / name, limit) for name, limit in ((_CARD, _CARD_LIMIT), (_REPORT, JSON_LIMIT))}
    sizes = {name: _size(folder / name) for name in _FILES}
    return _made(str(folder), config, texts, sizes)


def _shared(address: str, endpoint: str | None, token: str | bool | None) -> Inspection:
    from mvcore.storage import hub  # imports the Hub's client

    remote = hub.find(parse(address), endpoint, token)
    config = read_config(remote.folder, links=remote.cache)
    known = [name for name in (_CARD, _REPORT) if remote.knows(name)]
    texts = {name: hub.read(remote, name) if name in known else None for name in (_CARD, _REPORT)}
    sizes = {name: remote.size(name) for name in _FILES}
    unknown = tuple(name for name in _FILES if not remote.knows(name))
    return evolve(_made(str(remote.origin), config, texts, sizes), unknown=unknown)


def _made(
    where: str, config: Mapping[str, Any], texts: Mapping[str, bytes | None], sizes: Mapping[str, int | None]
) -> Inspection:
    card, report = texts[_CARD] or b"", texts[_REPORT]
    return Inspection(
        where=where,
        config=config,
        card=card.decode("utf-8", "replace"),
        sizes={name: size for name, size in sizes.items() if size is not None},
        report=None if report is None else _report(report, where),
    )


def _report(content: bytes, where: str) -> Report:
    from mvcore.evaluation.report import Report  # imports torch

    try:
        return Report.parsed(content)
    except ValueError as error:
        raise ModelFileError(f"{_REPORT} of {where!r} is damaged: {error}.") from error


def _content(file: Path, limit: int) -> bytes | None:
    try:
        return read_bounded(file, limit)
    except FileNotFoundError:
        return None


def _size(file: Path) -> int | None:
    try:
        with opened(file) as (_, size):
            return size
    except FileNotFoundError:
        return None
