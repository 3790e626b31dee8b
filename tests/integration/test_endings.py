"""Commands that end before their end: signals, and errors that nobody thought of."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import sound
from tests.support.commands import RUN
from tests.support.refusals import besides_progress, line_of, require_line, require_no_traceback, rows_of
from whisper_parity.judge.verdict import Outcome

MAIN = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from whisper_parity.cli import main
main(prog_name="parity")
"""
PARITY = [sys.executable, "-c", MAIN]
"""What a shell starts in the background ignores Ctrl-C, and so would the tests' own children."""
CLIPS = 40


@pytest.fixture
def started(tmp_path: Path, cache_dir: Path, scripted_checkpoint: Path):
    """A long run in a process of its own, as soon as it has recorded something."""
    (tmp_path / "clips").mkdir()
    for number in range(CLIPS):
        sound.write_wav(tmp_path / "clips" / f"c{number:02}.wav", sound.warble(1.0 + number / 100))
    words = [*RUN, "--checkpoint", str(scripted_checkpoint), "--clips", "clips", "--cache", str(cache_dir)]

    @contextmanager
    def start() -> Iterator[subprocess.Popen[str]]:
        environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
        process = subprocess.Popen(
            [*PARITY, *words], cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
        )
        try:
            deadline = time.monotonic() + 60
            while not any('"cell"' in path.read_text("utf-8") for path in tmp_path.glob("reports/*/journal.jsonl")):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            yield process
        finally:
            process.kill()
            process.wait()

    return start


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_says_how_to_go_on(started, tmp_path: Path, number: signal.Signals, code: int):
    """The exit code is the shell's; the command that it names finishes the run and records nothing again."""
    with started() as process:
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == code, stderr
    done, line = besides_progress(stderr)
    (run,) = (tmp_path / "reports").iterdir()
    assert re.fullmatch(rf"parity: interrupted: [1-9][0-9]? of {2 * CLIPS} cells done", done)
    assert line.startswith("parity: go on with `parity run ")
    assert line.endswith(f" --run-id {run.name}`: what is recorded is kept")
    traces = {path: path.stat().st_mtime_ns for path in run.glob("traces/*")}
    words = shlex.split(line.split("`")[1])[1:]
    finished = subprocess.run([*PARITY, *words], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert finished.returncode == 0, finished.stderr
    assert len(rows_of(run)) == 2 * CLIPS
    assert traces
    assert traces.items() <= {path: path.stat().st_mtime_ns for path in run.glob("traces/*")}.items()


def test_a_second_ctrl_c_ends_at_once(started):
    """Without a traceback, whatever the first one was still waiting for."""
    with started() as process:
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(0.02)
        stderr = process.communicate(timeout=5)[1]
    assert process.returncode in (130, -signal.SIGINT), (
        stderr
    )  # the latter where Python was gone already: 130 in a shell
    assert "Traceback" not in stderr


def test_an_error_that_nobody_thought_of_is_a_row(parity, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The other cells go on; the file that the row names holds the traceback."""
    from whisper_parity.run import cell

    monkeypatch.setattr(cell, "compare", lambda *_: 1 // 0)
    result = parity(*RUN, "--clips", clip, "--run-id", "bug")
    require_no_traceback(result, 3)
    rows = rows_of(tmp_path / "reports" / "bug")
    assert rows["warble", "pytorch"].verdict.outcome is Outcome.REFERENCE
    broken = rows["warble", "torchscript"]
    assert broken.verdict.outcome is Outcome.FAILED
    (file,) = (tmp_path / "reports" / "bug" / "crashes").iterdir()
    assert broken.verdict.reason == (
        "an error that nobody thought of: ZeroDivisionError: integer division or modulo by zero. "
        f"This is a bug of whisper-parity: report it with {file}"
    )
    require_line(result, broken)
    assert "ZeroDivisionError" in file.read_text("utf-8")


def test_a_page_that_nobody_can_draw_leaves_the_verdict(
    parity, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The run's exit code stands; the line says where the traceback is."""
    from whisper_parity.report.html import page

    monkeypatch.setattr(page, "write", lambda *_: 1 // 0)
    result = parity(*RUN, "--clips", clip, "--run-id", "drawn")
    require_no_traceback(result, 0)
    (file,) = (tmp_path / "reports" / "drawn" / "crashes").iterdir()
    assert "page:   not written: an error that nobody thought of: ZeroDivisionError" in result.stderr
    assert str(file) in result.stderr


def test_an_error_that_nobody_thought_of_is_one_line(parity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Outside the rows too."""
    from whisper_parity import project

    monkeypatch.setenv(project.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(project, "find", lambda: {}["nothing"])
    line = line_of(parity("doctor"), 3)
    (file,) = (tmp_path / "cache" / "crashes").iterdir()
    assert line == (
        f"an error that nobody thought of: KeyError: 'nothing'. This is a bug of whisper-parity: report it with {file}"
    )
    assert "Traceback" in file.read_text("utf-8")
