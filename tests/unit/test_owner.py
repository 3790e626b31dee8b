"""Two processes never work on one run; a lock of a process that is gone is taken over, and that is said."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from whisper_parity.errors import UsageError
from whisper_parity.run import owner
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.owner import owned

HOLD = """
import sys; from pathlib import Path
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.owner import owned
with owned(RunFolder(Path(sys.argv[1]))): print("held", flush=True); sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run's folder."""
    return RunFolder(tmp_path / "run")


def other(folder: RunFolder) -> subprocess.Popen[str]:
    """Another process that holds the run."""
    words = [sys.executable, "-c", HOLD, str(folder.path)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def test_a_run_that_is_in_work_is_refused_and_one_whose_process_was_killed_is_taken_over(folder: RunFolder):
    """The line says who has it, where and since when; an orderly end leaves nothing to say."""
    process = other(folder)
    who = rf"process {process.pid} on {platform.node()} since \d{{4}}-"
    refused = pytest.raises(UsageError, match=rf"run run is in work: {who}.*Wait for it to end, or choose another")
    with refused, owned(folder):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    with owned(folder) as said:
        assert said.startswith(f"taken over from process {process.pid} on {platform.node()} since ")
    with owned(folder) as said:
        assert said == ""


def test_a_forked_process_does_not_hold_the_run_of_the_one_that_it_came_from(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
):
    """A lane that outlives its parent for a moment is in nobody's way."""
    monkeypatch.setattr(owner, "PATIENCE_S", 0.0)
    (read, write), (is_up, up) = os.pipe(), os.pipe()
    with owned(folder):
        if not (child := os.fork()):
            os.close(write)
            os.write(up, b"!")
            os.read(read, 1)
            os._exit(0)
        assert os.read(is_up, 1) == b"!"
    with owned(folder):
        os.close(write)
    assert os.waitpid(child, 0)[1] == 0
