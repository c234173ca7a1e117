"""Saved models: a folder with config.json, model.safetensors and README.md, and nothing that runs."""

from __future__ import annotations

import glob
import json
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from safetensors import SafetensorError
from safetensors.torch import save_file

from mvcore.config.reading import opened
from mvcore.errors import FileAccessError, HubError, ModelFileError, MvcoreError, NotPackagedError
from mvcore.storage import blueprint
from mvcore.storage.address import is_address
from mvcore.storage.exchange import exchange
from mvcore.storage.folder import FILES, card, read_config
from mvcore.storage.saved import builder_of, content_of, some
from mvcore.storage.weights import Header, digest_of, not_finite, read_header, read_tensors
from mvcore.storage.writing import told

if TYPE_CHECKING:
    from torch import Tensor

    from mvcore.models.base import Model

_ATTEMPTS = 10  # readings of a model that is replaced again and again
_ABANDONED = 86_400.0  # seconds after which no save is still at work


def save(model: Model, path: str | os.PathLike[str]) -> Path:
    """Writes a model into a folder, whole or not at all; an older model in the folder is replaced.

    The files are written beside the folder, flushed, and put in its place in one step, where the system can exchange
    two folders (Linux), else by two renames. Whenever the process is killed, ``load`` finds the older model or the new
    one; what a killed save leaves beside the folder is hidden, and a save a day later removes it.

    Raises:
        NotPackagedError: If the model was built by hand, so that nobody could build it again.
        ModelFileError: If the folder holds something that is not a saved model, or the weights are not finite or not
            those of the config, so that nobody could load them.
        FileAccessError: If the system does not let it be written; nothing was changed.
    """
    if is_address(path):
        raise ModelFileError(f"{path!r} is on the Hub, where mvcore.push puts a model; give a folder of this machine.")
    folder = _folder(path)
    if model.config is None:
        raise NotPackagedError(type(model).__qualname__, "mvcore.model")
    if folder.exists() and not _may_replace(folder):
        raise ModelFileError(
            f"{str(folder)!r} holds something other than a saved model; choose a folder that is new or empty.",
            path=folder,
        )
    content = content_of(model)
    with told(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=_hidden(folder, "new"), dir=folder.parent))
        try:
            _write(*content, staging)
            _replace(staging, folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    _remove_leftovers(folder)
    return folder


def load(path: str | os.PathLike[str], *, endpoint: str | None = None, token: str | bool | None = None) -> Model:
    """Reads a saved model, on the CPU and in evaluation mode, in the precision that it was saved in.

    A folder may come from anyone. Two files of it are read, each once: no link, pipe or device, nothing larger than it
    must be. The weights are compared with the config before memory is taken, and with their digest where it has one.
    From the Hub the same two files are fetched into its cache, the weights only if their size is that of the config.

    Args:
        path: A folder, or a model on the Hub, ``"hf://user/name"`` or ``"hf://user/name@revision"``; the commit is then
            the model's ``origin``.
        endpoint: The Hub's address; by default the environment's (``HF_ENDPOINT``).
        token: What the Hub knows the caller by; by default the environment's (``HF_TOKEN``, or a login). False: none.

    Raises:
        HubError: If the Hub has no such model, or does not give it.
        MissingPluginError: If plugins that it needs are missing or too old; it names all of them.
        ModelFileError: If a file is missing, damaged or does not fit the config.
        ConfigError: If the config does not fit the installed plugins.
        FileAccessError: If the system does not let a file be read.
    """
    if is_address(path):
        from mvcore.storage.shared import load_shared  # which needs load_linked

        return load_shared(str(path), endpoint, token)
    if endpoint is not None or token is not None:
        raise HubError(
            f"{path!r} is a folder, which has no endpoint and no token; a model on the Hub is hf://user/name."
        )
    return load_linked(path, None)


def load_linked(path: str | os.PathLike[str], links: Path | None) -> Model:
    """As ``load``; the files may be links into the folder ``links``, as a cache that keeps contents elsewhere has."""
    folder = _folder(path)
    for _ in range(_ATTEMPTS):
        before = _identity(_standing(folder))
        try:
            model = _load(_standing(folder), links)
        except MvcoreError:
            if _identity(_standing(folder)) == before:
                raise
            continue
        if _identity(_standing(folder)) == before:
            return model.eval()
    raise ModelFileError(f"{str(path)!r} was replaced {_ATTEMPTS} times while it was read; save it less often.")


def _load(folder: Path, links: Path | None) -> Model:
    config, file = read_config(folder, links=links), folder / "model.safetensors"
    about = config.get("weights", {})
    try:
        with opened(file, links) as (content, size):
            header = read_header(content, size, file)
            build, precision = builder_of(config), about.get("precision")
            wanted = blueprint.expected(build, header.tensors, precision)
            blueprint.check_matches(wanted, header.tensors, f"{str(file)!r} does not hold the weights of its config")
            weights = load_file((content, header, file, about.get("sha256")))
    except (FileNotFoundError, NotADirectoryError):
        raise ModelFileError(f"{str(file)!r} is missing.", path=file) from None
    model = build() if precision is None else build().to(blueprint.PRECISIONS[precision])
    model.load_state_dict(weights, strict=True)
    return model


def load_file(source: tuple[BinaryIO, Header, Path, str | None]) -> dict[str, Tensor]:
    """The weights behind a header that was read, compared with their digest; None: they have none."""
    content, header, file, digest = source
    weights, found = read_tensors(content, header, file)
    if digest is not None and found != digest:
        raise ModelFileError(f"{str(file)!r} is damaged: it is not what config.json has the SHA-256 of.", path=file)
    if names := not_finite(weights):
        raise ModelFileError(f"{str(file)!r} holds weights that are no finite numbers: {some(names)}.", path=file)
    return weights


def _write(config: dict[str, Any], weights: dict[str, Tensor], folder: Path) -> None:
    try:
        save_file(weights, folder / "model.safetensors")
    except SafetensorError as error:
        raise FileAccessError(f"The weights could not be written: {error}. Nothing was changed.", folder) from error
    config["weights"]["sha256"] = digest_of(folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(card(config), encoding="utf-8")
    for path in [*folder.iterdir(), folder]:
        _flush(path)


def _folder(path: str | os.PathLike[str]) -> Path:
    try:
        with suppress(FileNotFoundError, NotADirectoryError):
            Path(path).lstat()
    except OSError as error:
        why = f"{str(path)!r} cannot be reached: {error.strerror or error}."
        raise FileAccessError(why, Path(path), error.errno) from error
    except (TypeError, ValueError) as error:  # no text; or one with a NUL, which no path has
        raise ModelFileError(f"{path!r} is no path of a folder: {error}.") from error
    return Path(path)


def _replace(staging: Path, folder: Path) -> None:
    """Puts the staged folder in place; the older one is removed only once the new one stands."""
    staging.chmod(0o755)
    if not folder.exists():
        staging.rename(folder)
    elif not exchange(staging, folder):
        _replace_in_two_steps(staging, folder)
    _flush(folder.parent)


def _replace_in_two_steps(staging: Path, folder: Path) -> None:
    """Between the two renames no model stands in the folder: ``_standing`` then finds the older one."""
    old = Path(tempfile.mkdtemp(prefix=_hidden(folder, "old"), dir=folder.parent))
    try:
        folder.rename(old / "model")
        try:
            staging.rename(folder)
        except OSError:
            (old / "model").rename(folder)
            raise
    except OSError:
        old.rmdir()
        raise
    shutil.rmtree(old)


def _standing(folder: Path) -> Path:
    """Where the model of a folder is: there, or where a save that was killed between two renames had put it."""
    if not folder.exists():
        found = [path / "model" for path in _leftovers(folder, "old") if (path / "model").is_dir()]
        return max(found, key=lambda path: path.stat().st_mtime_ns, default=folder)
    return folder


def _remove_leftovers(folder: Path) -> None:
    """Removes what killed saves left beside a model that stands; younger ones may be another process at work."""
    for path in _leftovers(folder, "new") + _leftovers(folder, "old"):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < time.time() - _ABANDONED:
                shutil.rmtree(path, ignore_errors=True)


def _leftovers(folder: Path, what: str) -> list[Path]:
    return [p for p in folder.parent.glob(f"{glob.escape(_hidden(folder, what))}*") if p.is_dir()]


def _hidden(folder: Path, what: str) -> str:
    return f".{folder.name}.mvcore-{what}-"


def _flush(path: Path) -> None:
    """Has the system write a file, or the names in a folder, to the disk; Windows knows no such thing of folders."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _may_replace(folder: Path) -> bool:
    """Whether a folder is empty, or holds a saved model and nothing else that its removal would lose."""
    if not folder.is_dir():
        return False
    names = {file.name for file in folder.iterdir()}
    try:
        return not names or (names <= FILES and bool(read_config(folder, any_format=True)))
    except (ModelFileError, FileAccessError):
        return False


def _identity(folder: Path) -> tuple[int, int] | None:
    """What tells a folder from one that took its place; None where there is none."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
