"""A run that is continued after bad input, a damaged trace or an interruption loses nothing."""

from __future__ import annotations

import shutil
from typing import Any

from tests.support.commands import RUN
from tests.support.damage import cut
from tests.support.refusals import files_of, require_no_traceback, rows_of
from whisper_parity.clips import features
from whisper_parity.judge.verdict import Outcome
from whisper_parity.run import report as records
from whisper_parity.run.folder import RunFolder


def test_a_bad_clip_joins_a_run_and_the_good_rows_stay(parity, good_run, tmp_path):
    """A run continued with a clip that cannot be used keeps traces and rows of the good one."""
    again = tmp_path / "reports" / "kept"
    shutil.copytree(good_run.run, again)
    before = files_of(again)
    (tmp_path / "empty.wav").touch()
    result = parity(*RUN, "--clips", f"{good_run.folder / 'good.wav'},empty.wav", "--run-id", "kept")
    require_no_traceback(result, 2)
    after = files_of(again)
    assert {name for name in before if name.startswith("traces/")} <= set(after)
    assert all(after[name] == known for name, known in before.items() if name.startswith(("traces/", "run.json")))
    outcomes = {key: row.verdict.outcome for key, row in rows_of(again).items()}
    assert outcomes == {
        ("good", "pytorch"): Outcome.REFERENCE,
        ("good", "torchscript"): Outcome.PASS,
        ("empty", "pytorch"): Outcome.INVALID_INPUT,
        ("empty", "torchscript"): Outcome.INVALID_INPUT,
    }


def test_a_trace_that_was_cut_short_is_named_and_the_rest_runs(parity, good_run, tmp_path):
    """The row names the file to delete; the other stage keeps its trace."""
    again = tmp_path / "reports" / "kept"
    shutil.copytree(good_run.run, again)
    (trace,) = (again / "traces").glob("*--torchscript.safetensors")
    cut(trace, 0.5)
    words = (*RUN, "--clips", good_run.folder / "good.wav", "--run-id", "kept")
    result = parity(*words)
    require_no_traceback(result, 2)
    row = rows_of(again)["good", "torchscript"]
    assert row.verdict.reason.startswith(f"{trace}: not a whole trace (")
    assert row.verdict.reason.endswith("Delete it and run the clip again")
    assert rows_of(again)["good", "pytorch"].verdict.outcome is Outcome.REFERENCE
    trace.unlink()
    require_no_traceback(parity(*words), 0)


def test_an_interrupted_run_is_continued(parity, good_run, tmp_path, monkeypatch):
    """Ctrl-C in the second stage: what was recorded before is there, and is not recorded again."""
    from whisper_parity.run.bench import Bench

    judged = Bench.judged

    def interrupted(self: Any, cell: Any) -> Any:
        if cell.stage.spec == "torchscript":
            raise KeyboardInterrupt
        return judged(self, cell)

    words = (*RUN, "--clips", good_run.folder / "good.wav", "--run-id", "cut")
    with monkeypatch.context() as patched:
        patched.setattr(Bench, "judged", interrupted)
        assert parity(*words).exit_code == 130
    folder = tmp_path / "reports" / "cut"
    before = files_of(folder / "traces")
    assert list(before) == ["good--pytorch.safetensors"]
    require_no_traceback(parity(*words), 0)
    assert before.items() <= files_of(folder / "traces").items()
    assert records.load(RunFolder(folder)).finished


def test_a_run_that_heard_its_clips_otherwise_is_not_continued(refuse, good_run, monkeypatch):
    """Its numbers came from other samples: the line says so, and nothing of the run changes."""
    monkeypatch.setattr(features, "VERSION", features.VERSION + 1)
    line = refuse(*RUN[1:])
    assert f"features_version ({features.VERSION - 1} then, {features.VERSION} now)" in line
