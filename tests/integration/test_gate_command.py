"""The gate as its users run it: `parity approve`, `parity gate`, `parity history`, `pytest -m parity --parity-gate`."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import jsonschema
import pytest
from click.testing import Result
from rich.console import Console

from tests.support import runs, sound
from tests.support.checkout import CHECKOUT
from whisper_parity.errors import OutputError
from whisper_parity.gate.result import GateResult
from whisper_parity.report import history, two_runs
from whisper_parity.run import report as records
from whisper_parity.run.folder import RunFolder
from whisper_parity.system import serial

ITEMS = {
    "test_other.py": "def test_other():\n    pass\n",
    "pytest.ini": "[pytest]\naddopts = -p no:anyio --strict-markers\n",
    "parity.toml": '[gate]\nfolder = "approved"\n',
}

Cli = Callable[..., Result]


@pytest.fixture(autouse=True)
def not_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CI", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a recorded run, its approved folder beside it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parity.toml").write_text(ITEMS["parity.toml"])
    record(tmp_path, "first", runs.report(run="first"))
    return tmp_path


@pytest.fixture
def cli(project: Path, parity_in: Callable[[Path], Cli]) -> Cli:
    return parity_in(project)


def record(folder: Path, name: str, report: records.Report) -> Path:
    """Write a report as a run under reports/."""
    serial.write(RunFolder(folder / "reports" / name).report, report)
    return folder / "reports" / name


def test_approve_then_gate(cli, project):
    """Red without an approved result, green with it; gate.json keeps its schema."""
    run = project / "reports" / "first"
    red = cli("gate", run)
    assert red.exit_code == 1
    assert (
        "FAIL approved: no approved result hand-plain.json: look at the run, then `parity approve first`" in red.output
    )
    signed = cli("approve", run)
    assert (signed.exit_code, signed.output.strip()) == (0, f"approved: {project / 'approved' / 'hand-plain.json'}")
    green = cli("gate", run)
    assert green.exit_code == 0
    assert green.output.splitlines() == ["gate passed: 45 rules on 3 edges, 1 not judged: each of them with -v"]
    written = serial.read(GateResult, RunFolder(run).gate)
    assert (written.passed, written.exit_code) == (True, 0)
    assert written.counts == {"passed": 45, "failed": 0, "not judged": 1}
    published = json.loads((CHECKOUT / "docs" / "gate.schema.json").read_text("utf-8"))
    jsonschema.validate(json.loads(RunFolder(run).gate.read_text("utf-8")), published)


def test_a_changed_text_is_shown_and_can_be_approved_anew(cli, project):
    """The diff on the console, the obtained file beside the expected one; approving prints what changed."""
    cli("approve", project / "reports" / "first")
    changed = record(project, "second", runs.report({("two", "tflite"): runs.saying("Ask not", (7,))}, run="second"))
    red = cli("gate", changed)
    assert red.exit_code == 1
    assert '@@ two · tflite @@\n-text: "And so my fellow Americans, ask not"\n+text: "Ask not"\n' in red.output
    assert (project / "approved" / "hand-plain.obtained.json").is_file()
    assert '+text: "Ask not"' in cli("approve", changed).output
    assert "pass approved: 9 of 9 cells as approved" in cli("gate", changed, "-v").output


def test_ci_cannot_approve(cli, project, monkeypatch):
    """Exit code 2 and one line."""
    monkeypatch.setenv("CI", "true")
    refused = cli("approve", project / "reports" / "first")
    assert refused.exit_code == 2
    assert refused.output.startswith("parity: approved results are not written in CI. Run `parity approve` yourself")
    assert not (project / "approved").exists()


def test_a_configuration_that_cannot_be_used(cli, project):
    """Exit code 2, in one line, for parity.toml and for the list of expected divergences."""
    (project / "approved").mkdir()
    (project / "approved" / "expected.toml").write_text('[[expected]]\nclip = "one"\n')
    bad = cli("gate", project / "reports" / "first")
    assert (bad.exit_code, bad.output.count("\n")) == (2, 1)
    assert "expected.toml: entry 1: no stage" in bad.output
    (project / "parity.toml").write_text("[gate]\nfloor = 3\n")
    bad = cli("gate", project / "reports" / "first")
    assert (bad.exit_code, "[gate]: unknown key floor" in bad.output) == (2, True)


def test_history_names_the_cause(project, cli):
    """Trend, direction, and what came with the last change; damaged runs are named and left aside."""
    other = runs.report({("two", "tflite"): runs.saying("Ask not", (7,))}, created="2026-01-02T00:00:00+00:00")
    stages = tuple(stage if stage.spec != "tflite" else replace(stage, sha256="tflite-2") for stage in other.stages)
    record(project, "second", replace(other, stages=stages, run="second"))
    (project / "reports" / "broken").mkdir()
    (project / "reports" / "broken" / "report.json").write_text('{"schema_version": 3')
    (project / "reports" / "cut\x1b[31m").mkdir()
    (project / "reports" / "sample").mkdir()
    (project / "reports" / "sample" / "index.html").write_text("a page alone is no run")
    file = history.rebuild(project / "reports")
    (trend,) = history.trends(file, "wer", "tflite")
    assert [point.run for point in trend.points] == ["first", "second"]
    assert (trend.points[0].value, trend.points[1].value) == (0.0, pytest.approx(5 / 21))
    assert trend.cause == "second: 0 -> 0.2381, artifact tflite-1 -> tflite-2"
    (still,) = history.trends(file, "wer", "torchscript")
    assert still.cause == ""
    assert [folder for folder, _ in history.skipped(file)] == ["broken", "cut\\x1b[31m"]
    again = history.rebuild(project / "reports")
    assert history.trends(again) == history.trends(file)


def test_a_commit_as_the_cause(project):
    """The same artifact under another commit."""
    other = runs.report({("two", "tflite"): runs.saying("Ask not", (7,))}, created="2026-01-02T00:00:00+00:00")
    machine = replace(other.machine, commit="decade")
    record(project, "second", replace(other, machine=machine))
    (trend,) = history.trends(history.rebuild(project / "reports"), "wer", "tflite")
    assert trend.cause == "second: 0 -> 0.2381, commit c0ffee -> decade"


def test_runs_of_other_clips_are_other_series(project):
    """Rates of other clips are not compared."""
    whole = runs.report(created="2026-01-02T00:00:00+00:00")
    fewer = tuple(row for row in whole.rows if row.clip != "two")
    record(project, "second", replace(whole, rows=fewer))
    found = history.trends(history.rebuild(project / "reports"), "wer", "tflite")
    assert [(each.series, len(each.points)) for each in found] == [
        ("hand-plain, 3 clips", 1), ("hand-plain, 2 clips", 1),
    ]  # fmt: skip


def test_history_at_the_terminal(cli, project):
    """A table with a bar for each run, and a usage error for what nobody measured."""
    (project / "reports" / "broken").mkdir()
    shown = cli("history", "--metric", "logits_snr_db")
    assert shown.exit_code == 0
    assert "higher" in shown.output
    assert "skipped broken: no report.json: cut off, or no run" in shown.output
    assert cli("history", "--metric", "mood").exit_code == 2


def test_a_history_that_cannot_be_written(tmp_path):
    """One error of ours."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        history.rebuild(tmp_path / "file" / "reports")


@pytest.mark.parametrize(
    ("values", "bars"),
    [([1.0], "▁"), ([1.0, 1.0], "▁▁"), ([0.0, 1.0], "▁█"), ([0.0, float("inf"), -float("inf"), 2.0, 1.0], "▁█▁█▄")],
)
def test_sparklines(values, bars):
    """Between smallest and largest; infinite values at the ends."""
    assert history.sparkline(values) == bars


def test_compare_says_what_changed(project):
    """Figures of each stage with their direction, the commit, the artifact."""
    other = runs.report({("two", "tflite"): runs.saying("Ask not", (7,))})
    machine = replace(other.machine, commit="decade", dirty=True)
    second = record(project, "second", replace(other, machine=machine))
    found = two_runs.compare_runs(RunFolder(project / "reports" / "first"), RunFolder(second))
    stream = io.StringIO()
    two_runs.show_runs(found, Console(file=stream, width=300))
    lines = stream.getvalue().splitlines()
    assert "commit c0ffee -> decade with changes" in lines
    assert "tflite wer: 0 -> 0.2381 (worse)" in lines
    assert not any(line.startswith("torchscript ") for line in lines)


@pytest.fixture
def session(pytester: pytest.Pytester, scripted_checkpoint: Path, cache_dir: Path) -> Callable[..., pytest.RunResult]:
    """`pytest -m parity --parity-gate` on two clips through pytorch and torchscript."""
    for name, content in ITEMS.items():
        (pytester.path / name).write_text(content)
    lines = []
    for i, name in enumerate(("one", "two-b")):
        sound.write_wav(pytester.path / f"{name}.wav", sound.warble(1.0, seed=i))
        lines.append({"audio_filepath": f"{name}.wav", "lang": "en", "text": ""})
    (pytester.path / "manifest.jsonl").write_text("\n".join(json.dumps(line) for line in lines) + "\n")

    def run(*words: object) -> pytest.RunResult:
        options = {"checkpoint": scripted_checkpoint, "cache": cache_dir, "manifest": "manifest.jsonl", "threads": 2,
                   "report-dir": "reports", "stages": "pytorch,torchscript", "run-id": "gate"}  # fmt: skip
        arguments = [f"--parity-{name}={value}" for name, value in options.items()]
        return pytester.runpytest_subprocess("--parity-gate", *arguments, *words)

    return run


def test_the_gate_under_pytest(session, pytester, cli_of):
    """Red without an approved result, green with it: one item a rule, in the JUnit file too, and the exit status."""
    red = session("-m", "parity")
    assert red.ret == 1
    red.stdout.no_fnmatch_line("*[[]12?%]*")
    red.stdout.fnmatch_lines(["gate failed: 2 of 18 rules on 1 edge", "FAIL approved: no approved result *",
                              "passed: 16 rules: each of them with -v", "FAILED parity-gate::approved*"])  # fmt: skip
    red.assert_outcomes(passed=22, failed=2, deselected=1)
    assert cli_of(pytester.path)("approve", "reports/gate").exit_code == 0
    green = session("-m", "parity", "--junitxml=junit.xml")
    assert green.ret == 0
    green.assert_outcomes(passed=24, deselected=1)
    green.stdout.fnmatch_lines(["gate passed: 18 rules on 1 edge: each of them with -v"])
    cases = {case.get("name"): case for case in ET.parse(pytester.path / "junit.xml").iter("testcase")}
    facts = {each.get("name"): each.get("value") for each in cases["faults[pytorch->torchscript]"].iter("property")}
    assert (facts["limit"], facts["actual"], facts["source"]) == ("at most 0", "0 faults", "default")
    assert serial.read(GateResult, RunFolder(pytester.path / "reports" / "gate").gate).passed
    for name in ("report", "gate"):
        published = json.loads((CHECKOUT / "docs" / f"{name}.schema.json").read_text("utf-8"))
        written = (pytester.path / "reports" / "gate" / f"{name}.json").read_text("utf-8")
        jsonschema.Draft202012Validator(published).validate(json.loads(written))


def test_the_gate_under_xdist(session, pytester, cli_of):
    """Judged once, by the controller, over all workers' rows; its verdict is the exit status."""
    red = session("-m", "parity", "-n", "2")
    assert red.ret == 1
    red.assert_outcomes(passed=22, failed=2)
    assert sum(line.startswith("gate failed") for line in red.outlines) == 1
    cli_of(pytester.path)("approve", "reports/gate")
    green = session("-m", "parity", "-n", "2")
    assert green.ret == 0
    green.assert_outcomes(passed=24)


def test_a_divergence_is_left_to_the_gate(session, pytester, cli_of):
    """With a wrong token embedding every cell diverges: shown as such, and the rules fail the session."""
    build = cli_of(pytester.path)
    assert build("build", "--stages", "torchscript", "--out", pytester.path / "artifacts").exit_code == 0
    (pytester.path / "artifacts" / "torchscript.lineage.json").unlink()
    _swap_rows(pytester.path / "artifacts" / "token_embedding.npy")
    found = session("-m", "parity", "--parity-artifacts=artifacts", "-rx")
    assert found.ret == 1
    assert found.parseoutcomes()["xfailed"] == 2
    found.stdout.fnmatch_lines(["FAIL logits_snr_db *", "XFAIL *torchscript-one* - *left to the gate: *"])


def test_a_part_of_the_run_is_judged_as_that_part(session, pytester, cli_of):
    """-k leaves cells out: the gate judges the rest against what was approved of it, and says so; nobody signs it."""
    session("-m", "parity")
    cli_of(pytester.path)("approve", "reports/gate")
    shutil.rmtree(pytester.path / "reports")
    partial = session("-m", "parity", "-k", "torchscript-one")
    assert partial.ret == 0
    partial.stdout.fnmatch_lines(["parity pass: *(1 of 4 cells)", "subset: 1 of 4 cells; *", "gate passed: *"])
    refused = cli_of(pytester.path)("approve", "reports/gate")
    assert refused.exit_code == 2
    assert "cells are missing" in refused.output


def test_a_part_without_a_comparison_does_not_pass(session, pytester, cli_of):
    """References alone compare nothing, whatever the gate's other rules say."""
    session("-m", "parity")
    cli_of(pytester.path)("approve", "reports/gate")
    shutil.rmtree(pytester.path / "reports")
    references = session("-m", "parity", "-k", "pytorch-one")
    assert references.ret == 1
    references.stdout.fnmatch_lines(["FAIL complete: *nothing was compared*", "parity: nothing was compared: *"])


def test_no_parity_item_is_no_pass(session):
    """The gate was asked for and had nothing to judge."""
    found = session("-m", "not parity")
    assert found.ret == 1
    found.stdout.fnmatch_lines(["*no parity item ran*"])


def test_bad_settings_are_told_before_the_run(session, pytester):
    """pytest's own code for wrong usage, and no item."""
    (pytester.path / "parity.toml").write_text('[gate.edges."tflite->onnx"]\nfaults = 1\n')
    found = session("-m", "parity")
    assert found.ret == pytest.ExitCode.USAGE_ERROR
    assert any("no such edge" in line for line in [*found.outlines, *found.errlines])


@pytest.fixture
def cli_of(parity_in: Callable[[Path], Cli]) -> Callable[[Path], Cli]:
    return parity_in


def _swap_rows(path: Path) -> None:
    import numpy as np

    table = np.load(path)
    table[[50258, 50259]] = table[[400, 370]]
    np.save(path, table)
