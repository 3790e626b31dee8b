"""A run of many cells: its report is told by its head, its rows are read page by page, and none is lost or made up."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.scale import enlarged
from tests.support import runs
from whisper_parity.errors import RecordError
from whisper_parity.judge.verdict import Outcome
from whisper_parity.report import console, markdown, views
from whisper_parity.run import pages, tally
from whisper_parity.run import report as records
from whisper_parity.run.excerpt import CLIPS
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.report import Report
from whisper_parity.run.totals import Totals
from whisper_parity.system import serial
from whisper_parity.system.terminal import Amount

CELLS = 1503


@pytest.fixture(scope="module")
def small() -> Report:
    """Three clips, of which one diverges in one stage."""
    return runs.report({("two", "tflite"): runs.saying("Something else", (1, 2, 3))})


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory, small: Report) -> RunFolder:
    """The same, over and over."""
    run = RunFolder(tmp_path_factory.mktemp("large") / "run")
    serial.write(run.report, small)
    enlarged(run, CELLS)
    return run


@pytest.fixture
def folder(large: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy to spoil."""
    return RunFolder(Path(shutil.copytree(large.path, tmp_path / "run")))


def timeless(totals: dict[str, Totals]) -> dict[str, Totals]:
    """Without sums of times, which depend on the order in the last digit."""
    return {stage: dataclasses.replace(one, seconds=0.0, audio_s=0.0) for stage, one in totals.items()}


def shown(report: Report, amount: Amount) -> str:
    """At a terminal that is a pipe."""
    screen = Console(file=io.StringIO(), width=200)
    console.show(report, screen, amount)
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


def test_rows_come_back_from_pages_and_totals_are_theirs(large: RunFolder, small: Report):
    """In their order; the excerpt has the worst clips, whole; counts of parts add up."""
    report = records.load(large)
    rows = list(report.rows)
    assert (len(report.rows), len(rows), len(report.pages)) == (CELLS, CELLS, 4)
    assert (report.rows[-1], report.rows[700]) == (rows[-1], rows[700])
    assert rows[0].vs_parent == small.rows[0].vs_parent
    assert tally.of_rows(rows) == tally.of_report(report)
    half, rest = tally.of_rows(rows[:900]), tally.of_rows(rows[900:])
    added = {stage: half[stage] + rest[stage] for stage in half}
    assert timeless(added) == timeless(tally.of_report(report))
    assert len({row.clip for row in report.short.rows}) == CLIPS == report.clips - report.left_out
    diverged = {row.clip for row in rows if row.verdict.outcome is Outcome.DIVERGED}
    assert diverged <= {row.clip for row in report.short.rows}


def test_views_tell_the_head_and_say_what_they_leave_out(large: RunFolder):
    """The terminal is told by totals, JSON holds every row."""
    report = records.load(large)
    text = shown(report, Amount.SCREEN)
    assert "334 pass" in text
    assert "167 diverged" in text
    said = [line.text for line in console.lines(report.short)]
    assert any(line.startswith(f"rows: of the {CLIPS} worst of {report.clips} clips; all with -v") for line in said)
    assert "rows: " not in shown(report, Amount.ALL)
    assert shown(report, Amount.ALL).count("parity run --clips") >= 167
    assert f"And {report.left_out} more clips" in markdown.render(report, None)
    assert len(json.loads(views.as_json(report, None))["rows"]) == CELLS


def test_a_page_that_is_not_the_reports_is_refused(folder: RunFolder):
    """Damaged, of another run, or under a name that leaves the folder; the head can still be shown."""
    page = folder.page_of_rows("rows-0002.jsonl")
    page.write_bytes(page.read_bytes().replace(b"pass", b"path", 1))
    report = records.load(folder)
    assert "334 pass" in shown(report, Amount.SCREEN)
    with pytest.raises(RecordError, match=r"rows-0002.jsonl: not the rows that the report was written with.*Continue"):
        list(report.rows)
    head = json.loads(folder.report.read_text("utf-8"))
    head["pages"][0]["file"] = "../outside.jsonl"
    folder.report.write_text(json.dumps(head), "utf-8")
    (folder.path.parent / "outside.jsonl").write_bytes(page.read_bytes())
    with pytest.raises(RecordError, match=r"run/outside.jsonl"):
        list(records.load(folder).rows)


def test_a_report_of_an_earlier_version_is_read(tmp_path: Path, small: Report):
    """It has no totals, and they are counted."""
    old = json.loads(serial.dumps(small))
    for name in ("totals", "clips", "pages", "excerpt", "traces"):
        del old[name]
    run = RunFolder(tmp_path / "old")
    run.path.mkdir()
    run.report.write_text(json.dumps({**old, "schema_version": 4}), "utf-8")
    report = records.load(run)
    assert tally.of_report(report) == tally.of_rows(small.rows)
    assert shown(report, Amount.SCREEN) == shown(small, Amount.SCREEN)


def test_long_rows_fill_smaller_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A page is read as a whole, and hours of speech make a row of a megabyte."""
    monkeypatch.setattr(pages, "CHARACTERS", 100)
    written = pages.write(RunFolder(tmp_path), ["x" * 60, "y" * 60, "z" * 300, "1", "2"])
    assert [page.rows for page in written] == [1, 1, 1, 2]
    assert [page.rows for page in pages.write(RunFolder(tmp_path), ["1"])] == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["rows-0001.jsonl"]
