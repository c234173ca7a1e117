"""One process at a time works in a folder, and a killed one keeps nobody out."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mvcore.errors import FileAccessError
from mvcore.storage.lock import locked

HOLD = """
import sys, time
from pathlib import Path
from mvcore.storage.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_kept_out_until_the_first_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with pytest.raises(FileAccessError, match="Another process is writing into"), locked(folder):
            pass
        first.send_signal(signal.SIGKILL)
        first.wait()
        with locked(folder), pytest.raises(FileAccessError, match="Another process"), locked(folder):
            pass
    with locked(folder):
        pass


def test_a_folder_that_can_not_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileAccessError, match="could not be written"), locked(tmp_path / "file" / "run"):
        pass
