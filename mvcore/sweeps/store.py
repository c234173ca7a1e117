"""Where the trials of a sweep are kept: a folder, or a bucket. One folder a trial, which is that of a run.

::

    trials/0007/  answers.json  what the search chose       config.json, model/, history.json, checkpoint/  as of a run
                  reports.json  its evaluations, by epoch   outcome.json  how it ended
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, final

from mvcore.config.reading import JSON_LIMIT, parse_json, read_bounded
from mvcore.errors import ConfigError, FileAccessError, ModelFileError
from mvcore.extras import require
from mvcore.storage.writing import write_whole

#: What is left of a trial whose model is not kept, and of one that may go on.
CHECKPOINTS = ("checkpoint/checkpoint.pt", "checkpoint/checkpoint-before.pt")


class Store(Protocol):
    """Files by name, ``0007/answers.json``, and folders to train in."""

    address: str

    def read(self, name: str) -> bytes | None:
        """A file; None if there is none."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Writes a file, whole or not at all."""
        ...

    def remove(self, name: str) -> None:
        """Removes a file or a folder, if there is one."""
        ...

    def numbers(self) -> list[int]:
        """The trials that there are."""
        ...

    @contextmanager
    def folder(self, number: int) -> Iterator[Folder]:
        """A trial's folder on this machine."""
        ...


class Folder:
    """A trial's folder; where it is a copy of one elsewhere, ``keep`` writes there what changed.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def keep(self) -> None:
        """Has all that is in the folder kept."""


@final
class FolderStore:
    """Trials in a folder that every machine sees.

    Args:
        root: The folder.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root).absolute()
        self.address = str(self.root)

    def read(self, name: str) -> bytes | None:
        """A file; None if there is none."""
        try:
            return read_bounded(self.root / name, JSON_LIMIT)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, name: str, content: bytes) -> None:
        """Writes a file, whole or not at all."""
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.root / name, content)

    def remove(self, name: str) -> None:
        """Removes a file or a folder, if there is one."""
        path = self.root / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def numbers(self) -> list[int]:
        """The trials that there are."""
        if not self.root.is_dir():
            return []
        return sorted(int(path.name) for path in self.root.iterdir() if path.name.isdecimal())

    @contextmanager
    def folder(self, number: int) -> Iterator[Folder]:
        """The trial's folder itself."""
        path = self.root / name_of(number)
        path.mkdir(parents=True, exist_ok=True)
        yield Folder(path)


@final
class BucketStore:
    """Trials in a bucket, or whatever else pyarrow has a file system for.

    Args:
        address: ``s3://…``, ``gs://…``, ``abfs://…``, ``hdfs://…``, ``file://…``.

    Raises:
        ConfigError: If there is no such file system.
        MissingExtraError: Without pyarrow.
    """

    def __init__(self, address: str) -> None:
        self._fs = require("pyarrow.fs", "sweep", "Storage in a bucket")
        self.address = address
        try:
            self._files, self._root = self._fs.FileSystem.from_uri(address)
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError([f"storage: {address!r} can't be reached: {error}"], "sweep") from error

    def read(self, name: str) -> bytes | None:
        """A file; None if there is none."""
        try:
            with self._files.open_input_stream(f"{self._root}/{name}") as stream:
                content: bytes = stream.read()
        except FileNotFoundError:
            return None
        return content

    def write(self, name: str, content: bytes) -> None:
        """Writes a file; a bucket has it whole or not at all."""
        path = f"{self._root}/{name}"
        try:
            self._files.create_dir(path.rpartition("/")[0], recursive=True)
            with self._files.open_output_stream(path) as stream:
                stream.write(content)
        except OSError as error:
            raise FileAccessError(f"{path!r} could not be written: {error}.", Path(path), error.errno) from error

    def remove(self, name: str) -> None:
        """Removes a file or a folder, if there is one."""
        path = f"{self._root}/{name}"
        kind = self._files.get_file_info(path).type
        if kind == self._fs.FileType.Directory:
            self._files.delete_dir(path)
        elif kind == self._fs.FileType.File:
            self._files.delete_file(path)

    def numbers(self) -> list[int]:
        """The trials that there are."""
        found = self._files.get_file_info(self._fs.FileSelector(self._root, allow_not_found=True))
        return sorted(int(info.base_name) for info in found if info.base_name.isdecimal())

    @contextmanager
    def folder(self, number: int) -> Iterator[Folder]:
        """A copy of the trial's folder."""
        there = f"{self._root}/{name_of(number)}"
        with tempfile.TemporaryDirectory(prefix="mvcore-trial-") as here:
            if self._files.get_file_info(there).type == self._fs.FileType.Directory:
                self._fs.copy_files(there, here, source_filesystem=self._files)
            yield _Copy(Path(here), self._fs, self._files, there)


@final
class _Copy(Folder):
    """A folder whose files go to a bucket when they changed."""

    def __init__(self, path: Path, fs: Any, files: Any, there: str) -> None:
        super().__init__(path)
        self._fs, self._files, self._there = fs, files, there
        self._kept = self._times()

    def keep(self) -> None:
        """Copies what is new to the bucket."""
        times = self._times()
        for name in [name for name, time in times.items() if self._kept.get(name) != time]:
            target = f"{self._there}/{name}"
            self._files.create_dir(target.rpartition("/")[0], recursive=True)
            self._fs.copy_files(str(self.path / name), target, destination_filesystem=self._files)
        self._kept = times

    def _times(self) -> dict[str, int]:
        found = [path for path in self.path.rglob("*") if path.is_file() and not path.name.startswith(".")]
        return {path.relative_to(self.path).as_posix(): path.stat().st_mtime_ns for path in found}


def store_of(address: str) -> Store:
    """The store at an address: a folder, or what has ``://`` in it."""
    return BucketStore(address) if "://" in address else FolderStore(address)


def name_of(number: int) -> str:
    """The name of a trial's folder."""
    return f"{number:04d}"


def read_json(store: Store, name: str) -> Any:
    """The value of a JSON file in a store; None if there is none.

    Raises:
        ModelFileError: If it is damaged.
    """
    content = store.read(name)
    if content is None:
        return None
    try:
        return parse_json(content)
    except ValueError as error:
        raise ModelFileError(f"{store.address}/{name} is damaged: {error}.") from error


def write_json(store: Store, name: str, value: Mapping[str, Any] | list[Any]) -> None:
    """Writes a JSON file into a store."""
    store.write(name, (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())
