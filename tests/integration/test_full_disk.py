"""A disk that is full while something is built: one line that says so, exit code 3, and nothing half is left."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import checkpoints
from tests.support.refusals import besides_progress, rows_of
from whisper_parity.judge.verdict import Outcome

PARITY = (sys.executable, "-m", "whisper_parity.cli")
MOUNT = 'mount -t tmpfs -o size="$1" none "$2" && shift 2 && "$@"; code=$?; find . -path "*partial*"; exit $code'
NO_SPACE = "No space left on device"


@pytest.fixture
def on_a_disk(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line with the folder `disk` on a file system of a size, in a mount namespace of its own."""
    (tmp_path / "disk").mkdir()
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("no program unshare: a small disk cannot be made here")

    def run(size: str, *words: object) -> subprocess.CompletedProcess[str]:
        command = [unshare, "--map-root-user", "--mount", "sh", "-c", MOUNT, "sh", size, "disk", *map(str, words)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    if (trial := run("1m", "true")).returncode:
        pytest.skip(f"a small disk cannot be mounted here: {trial.stderr.strip()}")
    return run


def line_of(process: subprocess.CompletedProcess[str]) -> str:
    """The one line that it says, with exit code 3 and no partial folder left."""
    assert process.returncode == 3, process.stderr
    assert process.stdout == ""
    (line,) = besides_progress(process.stderr)
    assert line.startswith("parity: ")
    return line


BUILDS = {
    "torchscript, table": ("torchscript", "1m", NO_SPACE),
    "torchscript, decoder": ("torchscript", "20m", "converting the checkpoint to TorchScript failed (exit code 1): "),
    "tflite, table": ("tflite", "1m", NO_SPACE),
    "tflite, decoder": ("tflite", "20m", NO_SPACE),
    "quantised": ("tflite:int8", "32m", "MiB are free on its disk"),
    "dla": ("dla:simulated", "32m", NO_SPACE),
}


@pytest.mark.parametrize("case", BUILDS)
def test_a_build_on_a_full_disk_is_one_line(
    on_a_disk: Callable[..., subprocess.CompletedProcess[str]], case: str, scripted_checkpoint: Path
):
    """Whatever writes: Python, a converter in C++, or a file mapped into memory."""
    stage, size, said = BUILDS[case]
    words = ("build", "--checkpoint", scripted_checkpoint, "--cache", "disk/cache", "--stages", stage)
    line = line_of(on_a_disk(size, *PARITY, *words))
    assert said in line
    assert NO_SPACE in line or "(signal 7, Bus error)" in line


def test_a_checkpoint_that_is_converted_on_a_full_disk_is_one_line(on_a_disk, tmp_path: Path):
    """Nothing half stays in the cache."""
    path = checkpoints.folder(tmp_path / "m", checkpoints.state())
    line = line_of(
        on_a_disk("4m", *PARITY, "build", "--checkpoint", path, "--cache", "disk/cache", "--stages", "pytorch")
    )
    assert "/m.pt: cannot be written (" in line
    assert line.endswith(". Choose another --cache")


def test_a_run_on_a_full_disk_is_a_row_and_goes_on(
    on_a_disk: Callable[..., subprocess.CompletedProcess[str]], scripted_checkpoint: Path, clip: Path, tmp_path: Path
):
    """The stage that cannot be built fails; those before it are judged."""
    process = on_a_disk(
        "20m", *PARITY, "run", "--checkpoint", scripted_checkpoint, "--cache", "disk/cache", "--stages", "torchscript",
        "--clips", clip, "--language", "en", "--run-id", "one", "--report-dir", "reports",
    )  # fmt: skip
    assert process.returncode == 3
    assert "Traceback" not in process.stderr + process.stdout
    rows = rows_of(tmp_path / "reports" / "one")
    assert rows["warble", "pytorch"].verdict.outcome is Outcome.REFERENCE
    assert rows["warble", "torchscript"].verdict.outcome is Outcome.FAILED
    assert NO_SPACE in rows["warble", "torchscript"].verdict.reason


@pytest.mark.parametrize("stage", ["torchscript", "tflite"])
def test_a_limit_on_file_sizes_is_one_line(stage: str, scripted_checkpoint: Path, tmp_path: Path):
    """As a quota or an old file system has one; 8 MiB hold no token embedding."""
    process = subprocess.run(
        [*PARITY, "build", "--checkpoint", scripted_checkpoint, "--cache", "cache", "--stages", stage],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2**23, 2**23)),
    )  # fmt: skip
    assert "File too large" in line_of(process)
    assert [path.name for path in (tmp_path / "cache").iterdir() if not path.name.endswith(".lock")] == []


def test_a_worker_that_aborts_is_a_line_and_leaves_nothing(parity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A C++ library that calls std::terminate, as torch's writer of files does on a full disk."""
    aborting = tmp_path / "modules" / "aborting.py"
    aborting.parent.mkdir()
    aborting.write_text(
        "import os, sys\ndef prepare(*words): pass\n"
        "def main(*words): print('terminate called', file=sys.stderr, flush=True); os.abort()",
        "utf-8",
    )
    monkeypatch.setenv("PYTHONPATH", str(aborting.parent))
    monkeypatch.setattr("whisper_parity.backends.torchscript.TRACING", "aborting")
    result = parity("build", "--stages", "torchscript", "--cache", tmp_path / "cache")
    assert result.exit_code == 3
    assert result.stderr.splitlines() == [
        "parity: converting the checkpoint to TorchScript failed (signal 6, Aborted): terminate called"
    ]
    assert [path.name for path in (tmp_path / "cache").iterdir() if not path.name.endswith(".lock")] == []
