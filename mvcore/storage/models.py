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
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

import mvcore
from mvcore import config as configs
from mvcore.data.schema import Schema
from mvcore.errors import ModelFileError, NotPackagedError
from mvcore.plugins import requires
from mvcore.plugins.registry import Registry
from mvcore.storage.exchange import exchange

if TYPE_CHECKING:
    from torch import Tensor

    from mvcore.models.base import Model

FORMAT = 1
FILES = frozenset({"config.json", "model.safetensors", "README.md"})  #: All that a saved model consists of.
_ATTEMPTS = 10  # readings of a model that is replaced again and again
_ABANDONED = 86_400.0  # seconds after which no save is still at work


def save(model: Model, path: str | os.PathLike[str]) -> Path:
    """Writes a model into a folder, whole or not at all; an older model in the folder is replaced.

    The files are written beside the folder, flushed, and put in its place in one step, where the system can exchange
    two folders (Linux), else by two renames. Whenever the process is killed, ``load`` finds the older model or the new
    one; what a killed save leaves beside the folder is hidden, and a save a day later removes it.

    Raises:
        NotPackagedError: If the model was built by hand, so that nobody could build it again.
        ModelFileError: If the folder holds something that is not a saved model, or the weights cannot be written.
    """
    folder = Path(path)
    if model.config is None:
        raise NotPackagedError(type(model).__qualname__, "mvcore.model")
    if folder.exists() and not _may_replace(folder):
        raise ModelFileError(
            f"{str(folder)!r} holds something other than a saved model; choose a folder that is new or empty.",
            path=folder,
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=_hidden(folder, "new"), dir=folder.parent))
    try:
        _write(model, staging)
        _replace(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    _remove_leftovers(folder)
    return folder


def load(path: str | os.PathLike[str]) -> Model:
    """Reads a saved model, on the CPU and in evaluation mode.

    Raises:
        MissingPluginError: If plugins that it needs are missing or too old; it names all of them.
        ModelFileError: If a file is missing, damaged or does not fit the config.
        ConfigError: If the config does not fit the installed plugins.
    """
    header, weights, file = _read(Path(path))
    requires.check(header["requires"])
    registry = Registry.installed()
    config = configs.structure("model", header["model"], registry)
    schema = configs.structure_as(Schema, header["schema"], registry, path="schema")
    model: Model = registry.load(registry.entry_of(type(config))).builder()(config, schema)
    try:
        model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise ModelFileError(f"{str(file)!r} does not hold the weights of its config: {error}") from error
    return model.eval()


def _write(model: Model, folder: Path) -> None:
    registry = Registry.installed()
    header = {
        "mvcore": {"format": FORMAT, "version": mvcore.__version__},
        "requires": requires.requirements(model.config, registry),
        "schema": configs.unstructure(model.schema, registry),
        "model": configs.unstructure(model.config, registry),
    }
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    try:
        save_file(weights, folder / "model.safetensors")
    except SafetensorError as error:
        raise ModelFileError(
            f"The weights could not be written: {error}. Look for a full disk; nothing was changed."
        ) from error
    (folder / "config.json").write_text(json.dumps(header, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(_card(header), encoding="utf-8")
    for path in [*folder.iterdir(), folder]:
        _flush(path)


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
        return not names or (names <= FILES and bool(_header(folder, any_format=True)))
    except ModelFileError:
        return False


def _header(folder: Path, *, any_format: bool = False) -> dict[str, Any]:
    file = folder / "config.json"
    try:
        header = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ModelFileError(f"{str(folder)!r} holds no saved model: it has no config.json.") from None
    except ValueError as error:
        raise ModelFileError(f"{str(file)!r} is damaged: {error}.") from error
    if not isinstance(header, dict) or not isinstance(header.get("mvcore"), dict):
        raise ModelFileError(f"{str(file)!r} is not the config of a saved mvcore model.")
    if not any_format and header["mvcore"].get("format") != FORMAT:
        raise ModelFileError(
            f"{str(file)!r} has format {header['mvcore'].get('format')!r}; this mvcore reads format {FORMAT}. "
            "Update mvcore."
        )
    if not any_format and (set(header) != {"mvcore", "requires", "schema", "model"} or not _lines(header["requires"])):
        raise ModelFileError(f"{str(file)!r} is not the config of a saved mvcore model, or a part of it is missing.")
    return header


def _lines(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(line, str) for line in value)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor], Path]:
    """Config and weights of one model, also while another one takes its place: each save brings a new folder."""
    for _ in range(_ATTEMPTS):
        folder = _standing(path)
        before = _identity(folder)
        try:
            header = _header(folder)
            weights = _weights(folder / "model.safetensors")
        except ModelFileError:
            if _identity(_standing(path)) == before:
                raise
            continue
        if _identity(_standing(path)) == before:
            return header, weights, folder / "model.safetensors"
    raise ModelFileError(f"{str(path)!r} was replaced {_ATTEMPTS} times while it was read; save it less often.")


def _identity(folder: Path) -> tuple[int, int] | None:
    """What tells a folder from one that took its place; None where there is none."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _weights(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except FileNotFoundError:
        raise ModelFileError(f"{str(file)!r} is missing.") from None
    except SafetensorError as error:
        raise ModelFileError(f"{str(file)!r} is damaged: {error}.") from error


def _card(header: dict[str, Any]) -> str:
    modalities = "\n".join(
        f"| {m['name']} | {tuple(m['shape'])} | {m['likelihood']} |" for m in header["schema"]["modalities"]
    )
    needs = " ".join(f'"{line}"' for line in ["mvcore", *header["requires"]])
    return (
        f"# {header['model']['use']}\n\nA multimodal VAE saved by mvcore {header['mvcore']['version']}.\n\n"
        f"```\npip install {needs}\n```\n\n```python\nimport mvcore\nmodel = mvcore.load('.')\n```\n\n"
        f"| modality | shape | likelihood |\n|---|---|---|\n{modalities}\n"
    )
