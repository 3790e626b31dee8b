"""The whole flow on a tiny model: table, report, traces, costs, continuation."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.support import sound
from whisper_parity.judge.verdict import Outcome
from whisper_parity.run import report as records
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.report import Report
from whisper_parity.system import serial
from whisper_parity.trace import file


def report_of(folder: Path) -> Report:
    return records.load(RunFolder(folder))


@pytest.fixture(scope="module")
def recorded(parity_in, tmp_path_factory) -> Path:
    """A folder with a clip and a run of it through whisper, pytorch and torchscript: only to be read."""
    folder = tmp_path_factory.mktemp("recorded")
    clip = sound.write_wav(folder / "warble.wav", sound.warble(2.0))
    result = parity_in(folder)("run", "--clips", clip, "--language", "en", *THREE, "--run-id", "one")
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def finished(recorded, tmp_path) -> Path:
    """A copy of the recorded run, to be continued or broken."""
    shutil.copytree(recorded, tmp_path, dirs_exist_ok=True)
    return tmp_path / "reports" / "one"


THREE = ("--stages", "whisper,torchscript")


def test_a_clip_at_parity_costs_one_encoder_and_one_decoder_call(finished):
    """For the root, whose draft is openai-whisper's own greedy pass, and for every stage behind it."""
    rows = {row.stage: row for row in report_of(finished).rows}
    assert {stage: (row.encoder_calls, row.decoder_calls) for stage, row in rows.items()} == {
        "whisper": (0, 0),
        "pytorch": (1, 1),
        "torchscript": (1, 1),
    }


def test_the_root_is_added_and_judged_against_whisper(finished):
    """Asked for two stages, judged on three: every later stage needs the root reference."""
    outcomes = {row.stage: row.verdict.outcome for row in report_of(finished).rows}
    assert outcomes["whisper"] is Outcome.REFERENCE
    assert list(outcomes) == ["whisper", "pytorch", "torchscript"]
    assert {outcomes["pytorch"], outcomes["torchscript"]} <= {Outcome.PASS, Outcome.DRIFT}


def test_every_stage_is_fed_the_same_features(finished):
    """One hash of the log-mel in all traces."""
    traces = [file.load(path) for path in sorted((finished / "traces").glob("*torch*.safetensors"))]
    hashes = {window.header.input_features_sha256 for found in traces for window in found.windows}
    assert len(traces) == 2
    assert len(hashes) == 1


def test_traces_hold_what_the_report_says(finished):
    """Tensors, tokens and choices can be read back and fit together."""
    found = file.load(RunFolder(finished).trace("warble", "torchscript"))
    (window,) = found.windows
    assert window.encoder_output.shape == (1, 1500, 64)
    assert window.teacher_forced.logits.shape == (len(window.header.tokens) + 1, 51865)
    assert tuple(window.teacher_forced.choices[:-1]) == window.header.tokens
    assert np.isfinite(window.teacher_forced.logits).all()


def test_the_report_survives_a_round_trip(finished):
    """Every number, infinities included, and valid JSON throughout."""
    path = RunFolder(finished).report
    report = report_of(finished)
    assert serial.loads(Report, serial.dumps(report), "memory") == report
    json.loads(path.read_text("utf-8"), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert report.machine.packages["torch"].startswith("2.13.0")
    assert report.stages[2].files["encoder"].name.endswith("_3000.pt")
    assert report.stages[2].parent_sha256


def test_the_table_is_printed_again_from_the_report(parity, finished):
    """`parity report` needs no model."""
    result = parity("report", finished)
    assert result.exit_code == 0
    assert "torchscript" in result.stdout
    assert result.stdout.splitlines()[0].startswith("parity ")


def test_stdout_is_data_and_stderr_is_talk(parity, clip):
    """No colour codes in a pipe; where the report is goes to stderr."""
    result = parity("run", "--clips", clip, "--language", "en", "--stages", "pytorch,torchscript")
    assert "\x1b" not in result.stdout
    assert "report: " in result.stderr
    assert "report: " not in result.stdout


def test_a_second_run_converts_nothing(parity, clip, tmp_path):
    """Artifacts are keyed by parent, options and tool versions."""
    cache = tmp_path / "cache"
    origins = []
    for name in ("first", "second"):
        parity(
            "run", "--clips", clip, "--language", "en", "--stages", "torchscript", "--run-id", name, "--cache", cache
        )
        origins.append(report_of(tmp_path / "reports" / name).stages[-1].origin)
    assert origins == ["built", "cached"]


def test_another_mask_is_another_artifact(parity, clip, tmp_path, finished):
    """A build option changes the key, is recorded, and does not change what is said."""
    parity(
        "run",
        "--clips",
        clip,
        "--stages",
        "torchscript",
        "--mask-value",
        "-10000",
        "--run-id",
        "masked",
        "--language",
        "en",
    )
    masked = report_of(tmp_path / "reports" / "masked")
    assert masked.stages[-1].options == {"mask_value": "-10000"}
    assert masked.stages[-1].sha256 != report_of(finished).stages[-1].sha256
    assert masked.exit_code == 0


def test_audio_of_three_windows_is_judged_window_by_window(parity, tmp_path):
    """61 s are three windows; texts are joined."""
    long = sound.write_wav(tmp_path / "long.wav", sound.warble(61.0, rate=8000), rate=8000)
    parity("run", "--clips", long, "--language", "en", "--stages", "torchscript", "--run-id", "long")
    row = report_of(tmp_path / "reports" / "long").rows[-1]
    assert (row.encoder_calls, row.decoder_calls) == (3, 3)
    assert row.audio_s == pytest.approx(61, abs=0.1)
    assert {item.window for item in row.vs_parent.comparison.tensors} == {0, 1, 2}
    assert any("3 windows" in note for note in row.notes)


def test_a_run_is_continued_by_its_name(parity, clip, tmp_path, finished):
    """Traces that are there are not recorded again; a new stage joins them."""
    before = {path: path.stat().st_mtime_ns for path in (finished / "traces").glob("*.safetensors")}
    result = parity("run", "--clips", clip, "--language", "en", *THREE, "--run-id", "one")
    assert result.exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in (finished / "traces").glob("*.safetensors")} == before


def test_a_run_is_not_continued_under_another_policy(parity, clip, finished):
    """Its traces would not belong together."""
    result = parity("run", "--clips", clip, "--policy", "plain", "--stages", "torchscript", "--run-id", "one")
    assert result.exit_code == 2
    assert "was made under other conditions: policy" in result.stderr


def test_changed_audio_is_recorded_again(parity, clip, finished):
    """A trace belongs to the bytes of its audio file."""
    sound.write_wav(clip, sound.warble(1.5, seed=4))
    before = file.load(RunFolder(finished).trace("warble", "pytorch")).header.audio_sha256
    parity("run", "--clips", clip, "--language", "en", *THREE, "--run-id", "one")
    after = file.load(RunFolder(finished).trace("warble", "pytorch")).header
    assert (after.audio_sha256 != before, after.audio_s) == (True, 1.5)


def test_runs_are_compared(parity, clip, finished, tmp_path):
    """The same again is no change; another mask is another artifact, its numbers stay."""
    parity("run", "--clips", clip, "--language", "en", *THREE, "--run-id", "two")
    result = parity("compare", finished, tmp_path / "reports" / "two")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "3 rows compared, 0 worse"


def test_one_stage_alone_is_not_a_pass(parity, clip, tmp_path):
    """Nothing compared is not PASS."""
    result = parity("run", "--clips", clip, "--language", "en", "--stages", "pytorch")
    assert result.exit_code == 1
    assert "nothing was compared" in result.stdout


def test_the_language_is_detected_once_and_shared(parity, clip, tmp_path):
    """Without a language the root detects it; every stage decodes under the same one."""
    parity("run", "--clips", clip, *THREE, "--run-id", "detected")
    headers = [file.load(path).header for path in (tmp_path / "reports" / "detected" / "traces").glob("*.safetensors")]
    assert len({header.language for header in headers}) == 1
    assert all(header.language for header in headers)


def test_the_reproducing_command_runs(parity, clip, finished):
    """What the report says to type is what was run."""
    row = report_of(finished).rows[-1]
    words = shlex.split(row.reproduce)
    assert words[:2] == ["parity", "run"]
    assert parity(*words[1:]).exit_code == 0
