"""Puts a model on the Hub: the files of a saved one, its card and its report, in one commit."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from attrs import frozen

import mvcore
from mvcore.arguments import shown
from mvcore.config.reading import read_bounded
from mvcore.errors import DataError, HubError
from mvcore.evaluation.report import Report
from mvcore.sharing import blocks, card, header
from mvcore.sharing.target import FIGURE_NAME, Target
from mvcore.storage.address import MAIN, Address, parse

if TYPE_CHECKING:
    from mvcore.models.base import Model

log = logging.getLogger(__name__)
_FIGURE_LIMIT = 16 * 2**20  # bytes


@final
@frozen(kw_only=True)
class Pushed:
    """What a push did."""

    repo: str
    commit: str
    """The commit that now holds the model."""
    url: str
    """The commit's page."""
    changed: bool
    """Whether a commit was made; False: the repository held this very model already."""

    def __str__(self) -> str:
        return f"hf://{self.repo}@{self.commit}"


def push(
    model: Model,
    repo: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    message: str | None = None,
    license: str | None = None,
    report: Report | str | os.PathLike[str] | None = None,
    figures: Sequence[str | os.PathLike[str]] = (),
    datasets: Sequence[str] = (),
    endpoint: str | None = None,
    token: str | bool | None = None,
) -> Pushed:
    """Puts a model on the Hugging Face Hub, for ``mvcore.load("hf://user/name")``, in one commit.

    The repository is created if there is none. What goes there are ``config.json``, ``model.safetensors``, the card
    ``README.md``, ``report.json`` and ``figures/`` where they are given; older ones of these go, other files stay. Of
    the card, what stands outside mvcore's blocks stays too. A model that is there already makes no commit.

    Args:
        model: A model that ``mvcore.save`` could save.
        repo: ``"user/name"``.
        private: Whether only its owner may see the repository; None: as it is, or as the account has it for new ones.
        revision: The branch, created if there is none; ``main`` by default.
        message: The commit's message.
        license: Its licence, as the Hub calls it, such as ``"apache-2.0"``. Without one the card says that none is
            given, unless the repository names one.
        report: Its evaluation: a report, or the folder that ``Report.save`` wrote.
        figures: Images to show in the card, PNG files.
        datasets: What it was trained on, as the Hub calls it.
        endpoint: The Hub's address; by default the environment's (``HF_ENDPOINT``).
        token: What the Hub knows the caller by; by default the environment's (``HF_TOKEN``, or a login).

    Raises:
        NotPackagedError: If the model can't be saved.
        DataError: If an argument does not fit.
        HubError: If the Hub does not take it: no right, no network, or someone else's commit at the same time.
        ModelFileError: If the repository holds something other than a model of mvcore.
    """
    address = _address(repo, revision)
    report, pictures = _checked(report, figures, license, datasets, message)
    with tempfile.TemporaryDirectory() as scratch:
        folder = mvcore.save(model, Path(scratch) / "model")  # before anything is asked of the Hub
        target = Target(address, endpoint, token)
        before = target.open(private)
        files: dict[str, bytes | Path] = {name: folder / name for name in ("config.json", "model.safetensors")}
        files |= {f"figures/{name}": content for name, content in pictures.items()}
        if report is not None:
            files["report.json"] = report.json().encode()
        files["README.md"] = _card(model, address, before, license, report, sorted(pictures), datasets).encode()
        commit, url = target.commit(files, message or f"Push a model of mvcore {mvcore.__version__}")
    return Pushed(repo=address.repo, commit=commit, url=url, changed=commit != target.head)


def _address(repo: str, revision: str | None) -> Address:
    found = parse(repo)
    if found.revision and revision and found.revision != revision:
        raise HubError(f"{repo!r} names a revision, and revision={revision!r} another one; give one of them.")
    branch = revision or found.revision
    address = parse(found.repo if branch in (None, MAIN) else f"{found.repo}@{branch}")
    if address.is_fixed:
        raise HubError(f"{str(address)!r} names a commit, which nothing can be put on; name a branch.")
    return address


def _checked(
    report: Any, figures: Any, license: str | None, datasets: Any, message: Any
) -> tuple[Report | None, dict[str, bytes]]:
    """The report and the figures, by their names."""
    header.check_license(license)
    for name, given in {"datasets": datasets, "figures": figures}.items():
        if isinstance(given, str) or not isinstance(given, Sequence):
            raise DataError(f"{name} must be a list; got {shown(given)}.")
    if not all(isinstance(name, str) and name for name in datasets):
        raise DataError(f"datasets must be a list of names; got {shown(datasets)}.")
    if message is not None and (not isinstance(message, str) or not message.strip()):
        raise DataError(f"message must be a text, or None; got {shown(message)}.")
    if report is not None and not isinstance(report, Report):
        report = Report.read(report)
    pictures = {Path(figure).name: _figure(Path(figure)) for figure in figures}
    if len(pictures) < len(figures):
        raise DataError(f"figures must have different names; got {shown([Path(figure).name for figure in figures])}.")
    return report, pictures


def _figure(file: Path) -> bytes:
    try:
        content = read_bounded(file, _FIGURE_LIMIT)
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"There is no figure {str(file)!r}.") from None
    if not content.startswith(b"\x89PNG\r\n\x1a\n") or not FIGURE_NAME.fullmatch(file.name):
        raise DataError(f"{str(file)!r} is no PNG file whose name ends in .png, of letters, digits, '_', '-' and '.'.")
    return content


def _card(
    model: Model,
    address: Address,
    before: Mapping[str, bytes],
    license: str | None,
    report: Report | None,
    figures: Sequence[str],
    datasets: Sequence[str],
) -> str:
    fields, text = header.split(before.get("README.md", b"").decode("utf-8", "replace").replace("\r\n", "\n"))
    named, kind = license or fields.get("license"), card.name_of(model)
    if named is None:
        log.warning("%s is given no licence, and its card says so; see the argument license.", address.repo)
    used = (model.record.data or {}).get("use") if model.record is not None else None
    origin = model.origin.repo if model.origin is not None and model.origin.repo != address.repo else None
    merged = header.merged(
        fields,
        name=address.repo.partition("/")[2],
        model=kind,
        license=license,
        datasets=datasets or ([used] if isinstance(used, str) else []),
        base=origin,
        report=report,
    )
    pictures = [f"figures/{name}" for name in figures]
    parts = card.blocks(
        model, str(address), license=None if named is None else str(named), report=report, figures=pictures
    )
    return header.written(merged) + "\n" + blocks.joined(text.lstrip("\n"), parts)
