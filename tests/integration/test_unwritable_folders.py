"""Folders that cannot be written are one line that says what to choose, and exit code 3."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.commands import RUN
from tests.support.refusals import line_of, require_line, require_no_traceback, rows_of
from whisper_parity.judge.verdict import Outcome


@pytest.fixture
def blocked(tmp_path) -> Path:
    """A path below a regular file: nobody can write there, root included."""
    (tmp_path / "file").write_text("kept", "utf-8")
    return tmp_path / "file" / "below"


def test_reports_that_cannot_be_written_are_an_environment_error(refuse, blocked):
    """The exit code is 3, and the line says what to choose."""
    line = refuse("--report-dir", blocked, exit_code=3)
    assert line.startswith(f"{blocked}")
    assert line.endswith("cannot be written (Not a directory). Choose another --report-dir")
    assert blocked.parent.read_text("utf-8") == "kept"


def test_reports_cannot_be_written_into_a_file(refuse, blocked):
    """A file in the folder's place gives the same line."""
    line = refuse("--report-dir", blocked.parent, exit_code=3)
    assert line.endswith("cannot be written (Not a directory). Choose another --report-dir")
    assert blocked.parent.read_text("utf-8") == "kept"


def test_a_cache_that_cannot_be_written_is_a_row(parity, clip, blocked, tmp_path):
    """The report is written all the same: exit code 3, and what to choose."""
    result = parity(*RUN, "--clips", clip, "--cache", blocked, "--run-id", "one")
    require_no_traceback(result, 3)
    rows = rows_of(tmp_path / "reports" / "one")
    for row in rows.values():
        assert row.verdict.outcome is Outcome.FAILED
        assert str(blocked) in row.verdict.reason
        assert row.verdict.reason.endswith("cannot be written (Not a directory). Choose another --cache")
        require_line(result, row)
    assert len(rows) == 2


def test_artifacts_cannot_be_exported_into_a_file(parity, blocked):
    """`parity build --out` says so in one line."""
    line = line_of(parity("build", "--stages", "torchscript", "--out", blocked), 3)
    assert line == f"{blocked}: cannot be written (Not a directory). Choose another folder"


def test_artifacts_cannot_be_built_below_a_file(parity, blocked):
    """`parity build --cache` says so in one line."""
    line = line_of(parity("build", "--stages", "torchscript", "--cache", blocked), 3)
    assert line == f"{blocked}: cannot be written (Not a directory). Choose another folder"


def test_a_disk_that_is_full_is_one_line(parity, clip, monkeypatch):
    """It is one line wherever the file system gives up."""
    from whisper_parity.run import collect

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "report.json")

    monkeypatch.setattr(collect, "collect", full)
    result = parity(*RUN, "--clips", clip, "--run-id", "one")
    assert line_of(result, 3) == "[Errno 28] No space left on device: 'report.json'"
