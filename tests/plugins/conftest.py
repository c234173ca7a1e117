"""Fake distributions on disk, found by their metadata as installed ones are."""

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts a distribution with one component and one module into a folder of ``sys.path``."""
    made: list[str] = []

    def make(
        dist: str, target: str, code: str | None, *, kind: str = "encoder", name: str = "it", version: str = "0.1",
        site: str = "site",
    ) -> Path:  # fmt: skip
        folder = tmp_path / site
        info = folder / f"{dist.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[mvcore.{kind}]\n{name} = {target}\n")
        made.append(target.partition(":")[0])
        if code is not None:
            (folder / f"{target.partition(':')[0]}.py").write_text(textwrap.dedent(code))
        if str(folder) not in sys.path:
            monkeypatch.syspath_prepend(folder)
        return folder

    yield make
    for module in made:
        sys.modules.pop(module, None)
