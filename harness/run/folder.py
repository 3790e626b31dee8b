"""Recorded runs: which one is meant."""

from __future__ import annotations

from pathlib import Path

from whisper_parity.errors import RecordError

REPORT = "report.json"


def find(given: Path | None) -> Path:
    """The folder of a run, by path, by name under reports/, or the newest.

    Raises:
        RecordError: there is none.
    """
    from whisper_parity.run.options import Options

    reports = Options().report_dir
    if given is None:
        found = sorted(reports.glob(f"*/{REPORT}"), key=lambda path: path.stat().st_mtime)
        if not found:
            raise RecordError(f"{reports}: no run yet", hint="Run `parity run` first")
        return found[-1].parent
    for path in (given, reports / given):
        if (path / REPORT).is_file() or (path.name == REPORT and path.is_file()):
            return path
    raise RecordError(
        f"{given}: neither a run nor a result file", hint=f"Give a folder with {REPORT}, or two JSON results"
    )
