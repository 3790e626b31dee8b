"""Stages side by side: the same bits as one after the other, and nothing is lost when a lane fails or is ended."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import sound
from whisper_parity.backend.stage import Stage
from whisper_parity.backends.torchscript import TorchScriptSession
from whisper_parity.run import lanes
from whisper_parity.run import report as records
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.lanes import Lanes
from whisper_parity.run.report import Report
from whisper_parity.trace import file

STAGES = ("whisper", "pytorch", "torchscript", "tflite")
CLIPS = ("one", "two")


@pytest.fixture
def run(parity, tmp_path, monkeypatch) -> Callable[..., Report]:
    """A run of four stages on two clips with one thread, on so many cores."""
    (tmp_path / "clips").mkdir()
    for seed, name in enumerate(CLIPS):
        sound.write_wav(tmp_path / "clips" / f"{name}.wav", sound.warble(1.0, seed=seed))

    def of(name: str, width: int, *words: object) -> Report:
        monkeypatch.setattr(lanes.cores, "available", lambda: width)
        result = parity(
            "run", "--clips", "clips", "--language", "en", "--stages", ",".join(STAGES), "--threads", 1, "--run-id",
            name, "--fresh", *words,
        )  # fmt: skip
        assert result.exit_code in (0, 1), result.output
        return records.load(RunFolder(tmp_path / "reports" / name))

    return of


def recorded(folder: Path, clip: str, stage: str) -> tuple[object, ...]:
    """All of a trace but its times."""
    trace = file.load(RunFolder(folder).trace(clip, stage))
    arrays = [array.tobytes() for w in trace.windows for array in (w.encoder_output, w.teacher_forced.logits)]
    return (trace.header.text, trace.header.timestamped_tokens, *arrays)


def test_stages_side_by_side_give_the_same_bits(run, tmp_path):
    """One core, three cores, and out of the cache: tensors, tokens, texts, verdicts and checks."""
    serial, wide = run("serial", 1), run("wide", 3)
    assert records.load(RunFolder(tmp_path / "reports" / "wide")).finished
    for clip in CLIPS:
        for stage in STAGES:
            one, other = (recorded(tmp_path / "reports" / name, clip, stage) for name in ("serial", "wide"))
            assert one == other
    assert [(row.clip, row.stage, row.verdict) for row in serial.rows] == [
        (row.clip, row.stage, row.verdict) for row in wide.rows
    ]
    assert [(c.stage, c.sequence, c.stateful, c.runs) for c in serial.states] == [
        (c.stage, c.sequence, c.stateful, c.runs) for c in wide.states
    ]
    assert not any(row.recorded for row in wide.rows)


def test_state_is_found_in_a_lane_too(run, monkeypatch):
    """The check runs beside the cells, in the session that recorded them."""
    decode, kept = TorchScriptSession.decode, {}

    def stale(self, tokens, encoder_output, rows):
        used = kept.get(id(self), encoder_output)
        kept[id(self)] = encoder_output
        return decode(self, tokens, used, rows)

    monkeypatch.setattr(TorchScriptSession, "decode", stale)
    assert [(check.stage, check.stateful) for check in run("wide", 4).states if check.stateful] == [
        ("torchscript", True)
    ]


def test_a_lane_that_dies_is_made_up_for(run, monkeypatch):
    """Its process is killed with every forward of the stage; this process records it, with the same result."""
    here, encode = os.getpid(), TorchScriptSession.encode

    def deadly(self, input_features):
        if os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return encode(self, input_features)

    monkeypatch.setattr(TorchScriptSession, "encode", deadly)
    report = run("wide", 4)
    assert report.finished
    assert {row.verdict.outcome.value for row in report.rows if row.stage == "torchscript"} <= {"pass", "drift"}


def test_models_of_several_threads_run_one_after_the_other(monkeypatch):
    """A process with threads of OpenMP is not forked."""
    monkeypatch.setattr(lanes.cores, "available", lambda: 8)
    assert (lanes.width(1), lanes.width(2)) == (8, 1)


def test_lanes_that_still_run_at_the_end_are_told_to_clean_up(tmp_path):
    """What is open is closed, and no process is left."""
    begun, closed = tmp_path / "begun", tmp_path / "closed"

    def record(_: Stage) -> None:
        try:
            begun.touch()
            time.sleep(60)
        finally:
            closed.touch()

    working = Lanes(record, 1)
    working.start([Stage("one", None), Stage("two", None)])
    while not begun.exists():
        time.sleep(0.01)
    working.close()
    assert closed.exists()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
