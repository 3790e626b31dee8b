"""Workers: the same bits as one process, and nothing is lost when one of them dies, wherever that happens."""

from __future__ import annotations

import faulthandler
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support import sound
from tests.support.commands import RUN
from tests.support.refusals import line_of
from tests.support.simulated import until
from whisper_parity.backends.torchscript import TorchScriptSession
from whisper_parity.judge.verdict import Outcome
from whisper_parity.run import report as records
from whisper_parity.run import worker_processes
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.report import Report, Row
from whisper_parity.run.traces import Traces
from whisper_parity.trace import file

MAIN = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from whisper_parity.cli import main
main(prog_name="parity")
"""
PARITY = [sys.executable, "-c", MAIN]
STAGES = ("whisper", "pytorch", "torchscript", "tflite")
CLIPS = ("one", "two", "three", "four")


@pytest.fixture
def run(parity, tmp_path) -> Callable[..., Report]:
    """A run of four stages on four clips with one thread, by so many workers."""
    (tmp_path / "clips").mkdir()
    for seed, name in enumerate(CLIPS):
        sound.write_wav(tmp_path / "clips" / f"{name}.wav", sound.warble(1.0, seed=seed))

    def of(name: str, workers: int, *words: object, threads: int = 1, stages: str = ",".join(STAGES)) -> Report:
        result = parity(
            "run", "--clips", "clips", "--language", "en", "--stages", stages, "--threads", threads, "--run-id", name,
            "--fresh", "--workers", workers, *words,
        )  # fmt: skip
        assert result.exit_code in (0, 1, 3), result.output
        return records.load(RunFolder(tmp_path / "reports" / name))

    return of


def recorded(folder: Path, clip: str, stage: str) -> tuple[object, ...]:
    """All of a trace but its times."""
    trace = file.load(RunFolder(folder).trace(clip, stage))
    arrays = [array.tobytes() for w in trace.windows for array in (w.encoder_output, w.teacher_forced.logits)]
    return (trace.header.text, trace.header.timestamped_tokens, *arrays)


def judged(row: Row) -> tuple[object, ...]:
    """All of a row but its times."""
    return row.clip, row.stage, row.verdict, row.text, row.token_ids, row.vs_parent, row.vs_root, row.notes


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers with the faults that a test puts into this process."""
    monkeypatch.setattr(worker_processes, "_native_threads", lambda: 0)


def test_workers_give_the_bits_of_one_process(run, tmp_path):
    """Tensors, tokens, texts, verdicts and checks; the rows of the report stand in the order of the clips."""
    alone, beside = run("alone", 1), run("beside", 3)
    assert beside.finished
    for clip in CLIPS:
        for stage in STAGES:
            one, other = (recorded(tmp_path / "reports" / name, clip, stage) for name in ("alone", "beside"))
            assert one == other
    assert list(map(judged, alone.rows)) == list(map(judged, beside.rows))
    assert [(c.stage, c.sequence, c.clips, c.stateful, c.checked) for c in alone.states] == [
        (c.stage, c.sequence, c.clips, c.stateful, c.checked) for c in beside.states
    ]
    assert not any(row.recorded for row in beside.rows)


def test_workers_with_several_threads_are_processes_of_their_own(run, tmp_path):
    """Not forked, since a process with threads of OpenMP cannot be; the same bits."""
    alone, beside = (run(n, w, threads=2, stages="pytorch,torchscript") for n, w in (("alone", 1), ("beside", 2)))
    assert list(map(judged, alone.rows)) == list(map(judged, beside.rows))
    assert beside.threads == 2


@pytest.mark.usefixtures("forked")
def test_state_is_found_by_a_worker_too(run, monkeypatch):
    """The check runs in a session that has recorded cells."""
    decode, kept = TorchScriptSession.decode, {}

    def stale(self, tokens, encoder_output, rows):
        used = kept.get(id(self), encoder_output)
        kept[id(self)] = encoder_output
        return decode(self, tokens, used, rows)

    monkeypatch.setattr(TorchScriptSession, "decode", stale)
    assert [(check.stage, check.stateful) for check in run("wide", 2).states if check.stateful] == [
        ("torchscript", True)
    ]


@pytest.mark.usefixtures("forked")
def test_a_cell_whose_worker_is_killed_is_given_to_another(run, tmp_path, monkeypatch):
    """Once: the row says so, and is else as it would have been."""
    encode, died = TorchScriptSession.encode, tmp_path / "died"

    def deadly(self, input_features):
        if not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return encode(self, input_features)

    monkeypatch.setattr(TorchScriptSession, "encode", deadly)
    report = run("wide", 2)
    assert report.finished
    noted = [note for row in report.rows for note in row.notes if "tried again" in note]
    assert len(noted) == 1
    assert noted[0].startswith("tried again, since worker ")
    assert noted[0].endswith(" ended (signal 9, Killed)")
    assert {row.verdict.outcome.value for row in report.rows if row.stage == "torchscript"} <= {"pass", "drift"}


@pytest.mark.usefixtures("forked")
def test_a_cell_that_ends_every_worker_is_a_row_and_the_others_are_judged(run, monkeypatch):
    """A crash in native code: three tries; its row says how they ended, and what is judged against it is told."""
    play = Traces.play

    def crashing(self, stage, session, task):
        if (stage, task.clip.name) == ("torchscript", "two"):
            faulthandler.disable()  # of pytest, which prints where
            os.abort()
        return play(self, stage, session, task)

    monkeypatch.setattr(Traces, "play", crashing)
    rows = {(row.clip, row.stage): row for row in run("wide", 2).rows}
    crashed = rows["two", "torchscript"].verdict
    assert crashed.outcome is Outcome.FAILED
    assert re.fullmatch(
        r"torchscript ended its worker 3 times: (worker \d+ ended \(signal 6, Aborted\)(; )?){3}\. "
        r"Run this cell alone to see what it prints; a killed one may lack memory: use fewer --workers",
        crashed.reason,
    )
    behind = rows["two", "tflite"].verdict
    assert behind.outcome is Outcome.NOT_COMPARED
    assert behind.reason == f"not compared, since its reference torchscript did not run: {crashed.reason}"
    others = [row for key, row in rows.items() if key[0] != "two"]
    assert len(others) == 12
    assert not any(row.verdict.outcome.exit_code for row in others)


@pytest.mark.usefixtures("forked")
def test_workers_that_cannot_begin_end_the_run_in_one_line(run, parity, tmp_path, monkeypatch):
    """Nobody starts them for ever."""

    monkeypatch.setattr(worker_processes, "Bench", lambda *_, **__: os._exit(7))
    words = ("--clips", "clips", "--threads", 1, "--workers", 2)
    assert line_of(parity(*RUN, *words), 3) == (
        "3 workers ended before they could begin (exit code 7). Use --workers 1"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_run(tmp_path, cache_dir, scripted_checkpoint, number):
    """Ctrl-C, SIGTERM and kill -9 of the process that hands out leave no process behind; the run can be continued."""
    (tmp_path / "clips").mkdir()
    for seed in range(40):
        sound.write_wav(tmp_path / "clips" / f"{seed}.wav", sound.warble(1.0, seed=seed))
    words = ["--checkpoint", scripted_checkpoint, "--clips", "clips", "--cache", cache_dir, "--threads", 1]
    command = [*PARITY, *map(str, [*RUN, *words, "--workers", 2, "--fresh", "--run-id", "cut"])]
    process = subprocess.Popen(command, cwd=tmp_path, text=True, stderr=subprocess.PIPE, start_new_session=True)
    until(lambda: list(tmp_path.glob("reports/cut/traces/*")), 180)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does it: the workers get it too
    else:
        process.send_signal(number)
    stderr = process.communicate(timeout=120)[1]
    assert process.returncode in (130, 143, -signal.SIGKILL)
    assert "Traceback" not in stderr
    assert until(lambda: not members(process.pid), 60)


def members(group: int) -> list[str]:
    """Processes of a group that are there."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[2]) == group and fields[0] != "Z":
                found.append(path.parent.name)
    return found
