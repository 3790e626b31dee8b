"""`parity doctor` and `parity compare` of runs: the last line says what to do, or what was not compared."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from tests.support import runs, sound
from whisper_parity.backend.contract import Availability
from whisper_parity.backend.registry import Backends
from whisper_parity.run.folder import RunFolder
from whisper_parity.system import serial


def test_doctor_ends_with_what_to_do_next(parity, tmp_path: Path, monkeypatch):
    """A first run; what parity.toml names; what has to be installed, in the words of the backend that lacks it."""
    assert (
        parity("doctor").stdout.splitlines()[-1].startswith("next: `parity run --clips FOLDER` judges your recordings")
    )
    (tmp_path / "parity.toml").write_text("[run]\nthreads = 2\n")
    assert parity("doctor").stdout.splitlines()[-1] == (
        f"next: `parity run` judges what {tmp_path}/parity.toml names; then `parity gate`"
    )
    asked = Backends.availability

    def lacking(self: Backends, name: str) -> Availability:
        return Availability(False, "torch is missing. Install it") if name == "pytorch" else asked(self, name)

    monkeypatch.setattr(Backends, "availability", lacking)
    result = parity("doctor")
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (3, "next: pytorch: torch is missing. Install it")
    checkup = json.loads(parity("doctor", "--json").stdout)
    assert (checkup["usable"], checkup["next"]) == (False, "pytorch: torch is missing. Install it")
    assert {"name": "pytorch", "state": "unavailable", "reason": "torch is missing. Install it"} in checkup["backends"]


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """Two runs: the second has another clip in place of "three", and no stage tflite."""
    first = runs.report(run="first")
    renamed = (dataclasses.replace(row, clip="four") if row.clip == "three" else row for row in first.rows)
    rows = tuple(row for row in renamed if row.stage != "tflite")
    second = dataclasses.replace(first, run="second", rows=rows, stages=first.stages[:2])
    folders = tmp_path / "reports" / "first", tmp_path / "reports" / "second"
    for folder, report in zip(folders, (first, second)):
        serial.write(RunFolder(folder).report, report)
    return folders


def test_compare_names_the_rows_that_only_one_run_has(parity, two):
    """Both ways; what is lost fails, what is new does not."""
    result = parity("compare", *two)
    lines = result.stdout.splitlines()
    assert [line for line in lines if line.startswith("only in the first: ")] == [
        f"only in the first: {cell}"
        for cell in ("one · tflite", "two · tflite", "three · pytorch, torchscript, tflite")
    ]
    assert [line for line in lines if line.startswith("only in the second: ")] == [
        "only in the second: four · pytorch, torchscript",
    ]  # fmt: skip
    assert lines[-1] == "4 rows compared, 0 worse, 5 only in the first, 2 only in the second"
    assert result.exit_code == 1
    report = serial.read(runs.Report, RunFolder(two[1]).report)
    fewer = dataclasses.replace(report, rows=tuple(row for row in report.rows if row.clip != "four"))
    serial.write(RunFolder(two[0]).report, fewer)
    assert parity("compare", *two).exit_code == 0


def test_runs_without_a_common_row_say_what_each_is_made_of(parity, two):
    """Instead of leaving it to the reader to find out."""
    report = serial.read(runs.Report, RunFolder(two[1]).report)
    other = tuple(dataclasses.replace(row, clip="five") for row in report.rows)
    serial.write(RunFolder(two[1]).report, dataclasses.replace(report, rows=other))
    result = parity("compare", *two)
    assert result.exit_code == 2
    assert "no cell in common: pytorch, torchscript, tflite on one, two, three, and pytorch, torchscript on five" in (
        result.output
    )


def test_a_run_in_one_line_in_full_and_as_json(parity, tmp_path: Path):
    """-q is one line on stdout and none on stderr; --json is the report; -v says what is as it should be."""
    clip = sound.write_wav(tmp_path / "warble.wav", sound.warble(1.0))
    words = ("run", "--clips", clip, "--language", "en", "--stages", "pytorch,torchscript", "--run-id", "one")
    quiet = parity(*words, "-q")
    assert (quiet.stdout.splitlines(), quiet.stderr) == (["parity pass: 1 pass, 1 reference"], "")
    written = json.loads((tmp_path / "reports" / "one" / "report.json").read_text("utf-8"))
    assert written["summary"] == "pass: 1 pass, 1 reference"
    result = parity(*words, "--json")
    assert json.loads(result.stdout) == json.loads((tmp_path / "reports" / "one" / "report.json").read_text("utf-8"))
    assert [line.partition(":")[0] for line in result.stderr.splitlines()[-2:]] == ["report", "page"]
    shown = parity("report", "one").stdout
    assert "more lines on what is as it should be: with -v" in shown
    assert "state: nothing depends on what ran before" not in shown
    assert "state: nothing depends on what ran before: " in parity("report", "one", "-v").stdout
    assert parity("report", "one", "-q").stdout.splitlines() == ["parity pass: 1 pass, 1 reference"]


def test_run_and_gate_write_json(parity, two):
    """The same documents as in the run's folder; nothing else on stdout."""
    result = parity("gate", two[0], "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == json.loads(RunFolder(two[0]).gate.read_text("utf-8"))
