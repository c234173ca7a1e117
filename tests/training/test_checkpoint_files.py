"""The file of a checkpoint: any damage is seen, and nothing that no training wrote is unpacked or run."""

from __future__ import annotations

import hashlib
import os
import pickle
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import mvcore
from mvcore.errors import CheckpointError
from mvcore.training import weights
from mvcore.training.archive import _MARK, write_archive

Fit = Callable[..., mvcore.Run]


@pytest.fixture
def file(fit: Fit, tmp_path: Path) -> Path:
    fit(checkpoint=tmp_path / "run", epochs=1)
    return tmp_path / "run" / "checkpoint.pt"


def refused(file: Path) -> str:
    """What is said of a damaged file, which must not be torch's advice to run what it holds."""
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt") as caught:
        weights(file.parent)
    message = str(caught.value)
    assert "weights_only" not in message
    assert "npickl" not in message
    assert "\n" not in message
    return message


def test_any_flipped_bit_and_any_cut_is_seen(file: Path) -> None:
    draws, content = random.Random(0), file.read_bytes()
    ends = [*range(40), *range(len(content) - 120, len(content))]
    for place in [*ends, *(draws.randrange(len(content)) for _ in range(200))]:
        file.write_bytes(content[:place] + bytes([content[place] ^ 1 << draws.randrange(8)]) + content[place + 1 :])
        refused(file)
    for length in (0, 1, 66, 67, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:length])
        refused(file)
    file.write_bytes(content + b"\0")
    refused(file)
    file.write_bytes(content)
    assert weights(file.parent)


def test_an_archive_that_would_grow_is_refused_before_it_is_unpacked(file: Path) -> None:
    """One whose writer knows how the digest is taken."""
    with file.open("wb+") as out:
        write_archive({"format": 2, "model": {"w": torch.zeros(100_000_000 // 4)}}, out)
    with zipfile.ZipFile(file) as old:
        entries = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in entries.items():
            new.writestr(name, data)
    body = file.read_bytes()
    digest = _MARK + hashlib.sha256(body).hexdigest().encode()
    file.write_bytes(body[:-2] + len(digest).to_bytes(2, "little") + digest)
    assert file.stat().st_size < 1_000_000
    code = (
        "import resource, sys; from mvcore.training.checkpoint import weights\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: weights(sys.argv[1])\n"
        "except Exception as fault: print(fault)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, file.parent], capture_output=True, text=True, check=True)
    said, grown = done.stdout.splitlines()
    assert "holds packed parts" in said
    assert int(grown) < 50_000  # KiB


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("evil",)


@pytest.mark.parametrize("content", [Evil(), {"format": 2}, {"format": 1}, [1], None, {"format": 2, "model": Evil()}])
def test_what_no_training_wrote_is_refused_and_not_run(
    file: Path, content: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with file.open("wb+") as out:
        write_archive(content, out)
    refused(file)
    assert not (tmp_path / "evil").exists()


def test_a_pickle_and_what_is_no_file_are_refused(file: Path) -> None:
    file.write_bytes(pickle.dumps({"a": 1}))
    refused(file)
    file.unlink()
    file.mkdir()
    refused(file)
    file.rmdir()
    os.mkfifo(file)
    refused(file)
    file.unlink()
    file.symlink_to("/dev/zero")
    refused(file)
