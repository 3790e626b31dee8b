"""A run that is continued after bad input, a damaged trace or an interruption loses nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.hostile import killing
from tests.support import sound
from tests.support.commands import RUN
from tests.support.damage import cut
from tests.support.refusals import files_of, require_no_traceback, rows_of
from whisper_parity.clips import features
from whisper_parity.errors import RecordError
from whisper_parity.judge.verdict import Outcome
from whisper_parity.project import Project
from whisper_parity.run import batches, schedule
from whisper_parity.run import plan as plans
from whisper_parity.run import report as records
from whisper_parity.run.collect import collect
from whisper_parity.run.compact import Compact
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.journal import Journal
from whisper_parity.run.options import RunOptions
from whisper_parity.trace import file


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


@pytest.fixture
def many(tmp_path, scripted_checkpoint, cache_dir, monkeypatch) -> Callable[..., tuple[plans.Plan, Any]]:
    """Runs two stages over three clips in two batches, and gives the plan and its report without times."""
    monkeypatch.setattr(batches.batches, "__defaults__", (2,))
    clips = [sound.write_wav(tmp_path / f"{name}.wav", sound.warble(1.0, seed=i)) for i, name in enumerate("abc")]

    def run(name: str, traces: str, journal: bytes | None = None) -> tuple[plans.Plan, Any]:
        chosen = RunOptions(
            checkpoint=str(scripted_checkpoint), stages=("pytorch", "torchscript"), clips=tuple(map(str, clips)),
            language="en", threads=2, run_id=name, report_dir=tmp_path / "reports", cache=cache_dir, traces=traces,
        )  # fmt: skip
        plan = plans.make(chosen, Project(tmp_path))
        if journal is not None:
            plan.folder.journal.write_bytes(journal)
        with schedule.opened(plan) as running:
            list(running.rows(lambda _: None))
        collect(plan, 1.0)
        return plan, killing.timeless(json.loads(plan.folder.report.read_text("utf-8")))

    return run


def test_a_run_that_was_cut_anywhere_ends_as_one_that_nobody_disturbed(many):
    """Behind a line, inside one, in a group that had not reached the disk; with all traces, and with none."""
    plan, whole = many("cut", "none")
    journal = plan.folder.journal.read_bytes()
    lines = journal.splitlines(keepends=True)
    kinds = [json.loads(line)["kind"] for line in lines]
    assert {"stage", "placement", "cell", "compact", "order"} <= set(kinds)
    ends = [sum(map(len, lines[: number + 1])) for number in range(len(lines))]
    first, last = kinds.index("cell"), len(lines) - 1 - kinds[::-1].index("cell")
    places = [ends[first] - 1, ends[last // 2] + 30, ends[-1] - 20]
    for place in places:
        assert many("cut", "none", journal[:place])[1] == whole
    assert many("cut", "none", journal[: ends[last]] + b"\0" * 5000)[1] == whole
    plan, whole = many("all", "all")
    journal = plan.folder.journal.read_bytes()
    assert many("all", "all", journal[: len(journal) // 2])[1] == whole


def test_a_damaged_line_in_the_middle_loses_nothing(many):
    """The run is not continued; without that line, as the hint says, its cell alone runs again."""
    plan, whole = many("cut", "none")
    lines = plan.folder.journal.read_bytes().splitlines(keepends=True)
    number = next(i for i, line in enumerate(lines) if b'"kind":"cell"' in line)
    broken = b"".join([*lines[:number], lines[number].replace(b"pytorch", b"pitorch", 1), *lines[number + 1 :]])
    with pytest.raises(RecordError, match=rf"line {number + 1} is damaged.*Delete that line"):
        many("cut", "none", broken)
    assert plan.folder.journal.read_bytes() == broken
    assert many("cut", "none", b"".join(lines[:number] + lines[number + 1 :]))[1] == whole


def test_traces_of_the_worst_clips_stay_with_what_they_were_judged_against(many):
    """Of the others there is a compact record, as long as a trace of one clip is looked at again; a look records it."""
    plan, report = many("few", "worst:1")
    rows = [row for row in records.load(plan.folder).rows if row.vs_parent]
    worst = min(rows, key=lambda row: min(item.diff.snr_db for item in row.vs_parent.comparison.tensors))
    kept = {path.name for path in plan.folder.traces.iterdir()}
    assert kept == {f"{worst.clip}--{stage}.safetensors" for stage in ("pytorch", "torchscript")}
    assert report["traces"] == "worst:1"
    with Journal(plan.folder.journal) as journal:
        shorts = {record.key: record.read(Compact) for record in journal.records("compact")}
    assert len(shorts) == 6
    trace = file.load(plan.folder.trace(worst.clip, "torchscript"))
    window, (short,) = trace.windows[0].teacher_forced, shorts[worst.clip, "torchscript"].windows
    assert short.tokens == window.tokens
    assert [ids[0] for ids in short.top] == window.logits.argmax(-1).tolist()
    assert max(map(abs, short.movement)) <= 1e-3
    assert len(plan.folder.journal.read_bytes()) < 6 * 12_000
