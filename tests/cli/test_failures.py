"""Whatever goes wrong in a command is one paragraph without control characters, and exit code 1."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

import mvcore
from mvcore import runs
from mvcore.cli import main, table
from mvcore.data.dataset import MultimodalDataset
from mvcore.errors import DataError, FileAccessError, MissingExtraError
from mvcore.extras import require
from mvcore.storage.writing import whole_file, whole_folder, write_whole

CONFIG = '[data]\nuse = "miniacc"\n[model]\n'


def failing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: BaseException, *flags: str) -> Result:
    def train(*args: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(runs, "train", train)
    (tmp_path / "c.toml").write_text(CONFIG)
    return CliRunner().invoke(main, [*flags, "train", str(tmp_path / "c.toml"), "--out", str(tmp_path / "run")])


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/a/b"), "'/a/b' could not be read or written: Permission"),
        (OSError(errno.EROFS, "Read-only file system", "/a/b"), "'/a/b' could not be read or written: Read-only"),
        (OSError(errno.EFBIG, "File too large"), "could not be read or written: File too large"),
        (OSError(errno.ENOSPC, "No space left on device"), "could not be read or written: No space left"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/a\x1b[31m"), r"'/a\x1b[31m' could not be read"),
        (OSError(errno.EXDEV, "Invalid cross-device link", "/a", None, "/b"), "'/a' and '/b' could not be"),
        (OSError("odd"), "could not be read or written: odd"),
        (MemoryError(), "The memory does not suffice"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate"), "The memory does not"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "The memory does not suffice"),
        (ImportError("No module named 'x\x07'"), r"cannot be imported: No module named 'x\x07'"),
        (DataError("a\x1b]0;title\x07\u202eb"), r"Error: a\x1b]0;title\x07\u202eb"),
        (ValueError("\x1b[2J" + "x" * 1_000_000), r"ValueError: \x1b[2Jxxx"),
        (KeyError("a"), "KeyError: 'a'"),
        (AssertionError(), "AssertionError: "),
        (RecursionError("maximum recursion depth exceeded"), "RecursionError: maximum"),
    ],
)
def test_an_error_is_one_paragraph(
    error: Exception, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    result = failing(monkeypatch, tmp_path, error)
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert message in result.output
    assert len(result.output.splitlines()) <= 10
    assert len(result.output) < 3_000
    assert all(line.isprintable() for line in result.output.splitlines())
    assert "Traceback" not in result.output


def test_an_error_that_nobody_foresaw_says_how_to_report_it_and_shows_its_place_on_demand(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    result = failing(monkeypatch, tmp_path, ZeroDivisionError("division by zero"))
    assert "ZeroDivisionError: division by zero" in result.output
    assert "--traceback" in result.output
    result = failing(monkeypatch, tmp_path, ZeroDivisionError("division by zero"), "--traceback")
    assert isinstance(result.exception, ZeroDivisionError)


def start(*args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "mvcore", *args], text=True, check=False, **options)


def test_the_package_is_a_program() -> None:
    done = start("--help", capture_output=True)
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: mvcore ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_an_output_that_is_full_is_one_sentence() -> None:
    with open("/dev/full", "w") as full:
        done = start("plugins", stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "Error: The output, or a file, could not be read or written: No space left on device."
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="needs pipes that break")
def test_an_output_that_nobody_reads_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    done = start("plugins", stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert done.returncode == 1
    assert done.stderr == ""


FULL_DISK = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write past the limit then fails as one to a full disk does
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, 3_000))
from mvcore.cli import main
main(prog_name="mvcore")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_a_disk_that_fills_up_in_a_training_is_one_sentence(tmp_path: Path) -> None:
    small = "".join(
        f"[model.modalities.{m}.{part}]\nhidden = [4]\n"
        for m in ("rna", "mirna", "cna", "mutations", "rppa")[:3]
        for part in ("encoder", "decoder")
    )
    (tmp_path / "c.toml").write_text(f"{CONFIG}latent_dim = 2\n{small}[training]\nepochs = 1\n")
    command = [sys.executable, "-c", FULL_DISK, "train", "c.toml", "--out", "run", "--quiet"]
    done = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("Error: 'run/checkpoint/checkpoint.pt' could not be written: ")
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*checkpoint*.pt*"))


def test_a_folder_that_cannot_be_made_is_one_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileAccessError, match="could not be written"), whole_folder(tmp_path / "file/folder"):
        pass
    with pytest.raises(FileAccessError, match="could not be written"), whole_file(tmp_path / "none/file"):
        pass
    with pytest.raises(FileAccessError, match="could not be written"):
        mvcore.save(mvcore.create("multimodal", mvcore.Schema.from_shapes({"a": (2,)})), tmp_path / "file/model")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_errors_of_the_caller_pass_through_what_writes(tmp_path: Path) -> None:
    for error in (ValueError("mine"), RuntimeError("mine"), DataError("mine"), KeyboardInterrupt()):
        with pytest.raises(type(error)), whole_folder(tmp_path / "new"):
            raise error
        with pytest.raises(type(error)), whole_file(tmp_path / "file"):
            raise error
    assert not list(tmp_path.iterdir())


def test_an_error_of_a_file_is_an_os_error_with_its_number(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file") as caught:
        write_whole(tmp_path / "none/file", b"")
    assert caught.value.errno == errno.ENOENT


def test_a_folder_that_is_not_empty_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "data_of", lambda *args: pytest.fail("it was read"))
    monkeypatch.setattr(mvcore.storage.models, "load", lambda *args: pytest.fail("it was loaded"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes").write_text("mine")
    here, full = str(tmp_path), str(tmp_path / "full")
    for command in (["evaluate", here], ["impute", here, here], ["sample", here]):
        result = CliRunner().invoke(main, [*command, "--out", full])
        assert "holds something already" in result.output


def without(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == package] + [package]:
        monkeypatch.setitem(sys.modules, name, None)


def test_a_package_that_is_missing_is_named_with_what_needs_it_and_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without(monkeypatch, "sklearn")
    with pytest.raises(MissingExtraError) as caught:
        require("sklearn.cluster", "eval", "The metric 'clustering'")
    assert str(caught.value) == (
        "The metric 'clustering' needs the package 'scikit-learn'. Install it with: pip install \"mvcore[eval]\""
    )
    assert isinstance(caught.value, ImportError)
    assert require("math", "eval", "x").sqrt(4) == 2


@pytest.fixture
def data() -> MultimodalDataset:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(40, 1))
    x = {m: z + 0.1 * rng.normal(size=(40, d)) for m, d in (("a", 3), ("b", 2))}
    return MultimodalDataset(x, {"a": np.arange(40) % 5 > 0}, labels=(z[:, 0] > 0).astype(int))


def test_metrics_without_their_packages_are_left_out_and_named(
    data: MultimodalDataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = mvcore.create("multimodal", data, latent_dim=2)
    model.fit_transforms(data)
    for package in ("sklearn", "scipy", "matplotlib"):
        without(monkeypatch, package)
    report = mvcore.evaluate(model, data, train=data, K=5)
    for name in ("linear_probe", "clustering", "imputation"):
        assert 'pip install "mvcore[eval]"' in report.skipped[name]
        assert not report.under(name)
        with pytest.raises(MissingExtraError, match="scikit-learn"):
            mvcore.evaluate(model, data, train=data, metrics=[name], K=5)
    assert np.isfinite(report.values["log_likelihood"])
    with pytest.warns(UserWarning, match="no figures"):
        folder = report.save(tmp_path / "report")
    assert {file.name for file in folder.iterdir()} == {"report.json", "report.md"}
    assert "matplotlib" in (folder / "report.md").read_text()
    with pytest.raises(MissingExtraError, match="'matplotlib'"):
        report.figures(tmp_path / "figures")


def test_tables_without_pandas_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "pandas")
    with pytest.raises(MissingExtraError, match=r"'pandas'.*mvcore\[frames\]"):
        mvcore.from_frames({"a": None})


def test_tables_of_the_terminal_and_of_reports_hold_no_control_characters() -> None:
    assert table([["name"], ["a\x1b[31m"]]) == "name\na\\x1b[31m"
    report = mvcore.evaluation.report.Report(values={"a|b\x07": 1.0}, skipped={}, about={"model": "\u202e"})
    assert all(line.isprintable() for line in report.markdown().splitlines())
    assert "a\\|b\\x07" in report.markdown()
