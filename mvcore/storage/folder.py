"""The texts of a saved model's folder: its config, which is read strictly, and the card that people read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mvcore.config.reading import JSON_LIMIT, parse_json, read_bounded
from mvcore.errors import ModelFileError
from mvcore.text import clean

FORMAT = 1
FILES = frozenset({"config.json", "model.safetensors", "README.md"})  #: All that a saved model consists of.
_PARTS = {"mvcore", "requires", "schema", "model"}


def read_config(folder: Path, *, any_format: bool = False, links: Path | None = None) -> dict[str, Any]:
    """The config of a saved model, as plain values.

    Args:
        folder: The folder of the model.
        any_format: Whether that of another version of mvcore will do.
        links: A folder into which the file may be a link.

    Raises:
        ModelFileError: If the folder has none, or it is damaged or not one of a saved model.
        FileAccessError: If the system does not let it be read.
    """
    file = folder / "config.json"
    try:
        config = parse_json(read_bounded(file, JSON_LIMIT, links))
    except (FileNotFoundError, NotADirectoryError):
        raise ModelFileError(f"{str(folder)!r} holds no saved model: it has no config.json.", path=folder) from None
    except ModelFileError:
        raise
    except ValueError as error:
        raise ModelFileError(f"{str(file)!r} is damaged: {error}.", path=file) from error
    if not isinstance(config, dict) or not isinstance(config.get("mvcore"), dict):
        raise ModelFileError(f"{str(file)!r} is not the config of a saved mvcore model.", path=file)
    if not any_format:
        _check_parts(config, file)
    return config


def _check_parts(config: dict[str, Any], file: Path) -> None:
    written = config["mvcore"].get("format")
    if type(written) is not int or written != FORMAT:
        raise ModelFileError(
            f"{str(file)!r} has format {written!r}; this mvcore reads format {FORMAT}. Update mvcore.", path=file
        )
    weights = config.get("weights", {"sha256": ""})  # folders written before there was a digest have none
    if (
        set(config) - {"weights", "sampler", "training"} != _PARTS
        or not _lines(config["requires"])
        or not _says_what_weights(weights)
    ):
        raise ModelFileError(
            f"{str(file)!r} is not the config of a saved mvcore model, or a part of it is missing.", path=file
        )


def _lines(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(line, str) for line in value)


def _says_what_weights(value: Any) -> bool:
    known = isinstance(value, dict) and {"sha256"} <= set(value) <= {"sha256", "precision"}
    return known and all(isinstance(part, str) for part in value.values())


def card(config: dict[str, Any]) -> str:
    """The text of README.md."""
    modalities = "\n".join(
        f"| {cell(m['name'])} | {tuple(m['shape'])} | {cell(m['likelihood'])} |" for m in config["schema"]["modalities"]
    )
    needs = " ".join(f'"{line}"' for line in ["mvcore", *config["requires"]])
    return (
        f"# {config['model']['use']}\n\nA multimodal VAE saved by mvcore {config['mvcore']['version']}.\n\n"
        f"```\npip install {needs}\n```\n\n```python\nimport mvcore\nmodel = mvcore.load('.')\n```\n\n"
        f"| modality | shape | likelihood |\n|---|---|---|\n{modalities}\n"
    )


def cell(value: str) -> str:
    """A name in a table of Markdown: no line break, column, tag or control character of its own."""
    return clean(value, 200).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("`", "\\`")
