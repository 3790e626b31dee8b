"""What every refusal must look like, and what must be left when a command refuses."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from click.testing import Result

from whisper_parity.backend.artifact import file_sha256
from whisper_parity.run import report
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.report import Row


class Bomb:
    """Unpickling it makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def require_no_traceback(result: Result, exit_code: int) -> None:
    """The command ended by itself, with this exit code."""
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == exit_code, result.output
    assert "Traceback" not in result.output


def besides_progress(stderr: str) -> list[str]:
    """Lines on stderr, without those that say how far a command is: "parity: tflite: 3 of 9, 6 s so far"."""
    return [line for line in stderr.splitlines() if not re.match(r"parity: .*\d s so far(, about .* left)?$", line)]


def line_of(result: Result, exit_code: int) -> str:
    """The one line on stderr of a command that refused, without its prefix."""
    require_no_traceback(result, exit_code)
    (line,) = besides_progress(result.stderr)
    assert line.startswith("parity: ")
    return line.removeprefix("parity: ")


def rows_of(run: Path) -> dict[tuple[str, str], Row]:
    """Rows of a run's report by clip and stage."""
    return {(row.clip, row.stage): row for row in report.load(RunFolder(run)).rows}


def require_line(result: Result, row: Row) -> None:
    """The row's reason stands on exactly one line under the table, all of it printable."""
    where = f"{row.clip} · {row.stage}: " if row.stage else f"{row.clip}: "
    (line,) = [line for line in result.stdout.splitlines() if line.startswith(f"{row.verdict.outcome.value}: {where}")]
    assert row.verdict.reason in line
    assert line.isprintable()


def files_of(folder: Path) -> dict[str, str]:
    """Hash of every file below a folder."""
    return {str(path.relative_to(folder)): file_sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}
