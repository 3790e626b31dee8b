"""What a command says while it works, and where its time went."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from whisper_parity.system import activity, progress
from whisper_parity.system.activity import Kind, step


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that pass when the test says so."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_time_is_counted_once_and_by_what_it_was_spent_on(clock):
    """A step inside another is taken from that one; a check of state keeps what it is made of."""
    words: list[str] = []
    with activity.watched(words.append) as watch:
        with step(Kind.CLIPS):
            clock[0] += 1
            with step(Kind.BUILD, "converting encoder.pt"):
                clock[0] += 28
            with step(Kind.LOAD, "loading"):
                clock[0] += 4
            with step(Kind.CLIPS, "decoding"):
                clock[0] += 82
        with step(Kind.STATE, "state check"), step(Kind.LOAD, "loading"):
            clock[0] += 9
        with step(Kind.PAGE):
            clock[0] += 0.4
    assert watch.spent() == "load 4 s, build 28 s, clips 83 s, state 9 s"
    before = ["converting encoder.pt", "", "loading", "", "decoding", ""]
    assert words == [*before, "state check", "loading", "state check", ""]


def test_a_step_of_another_thread_is_shown_and_its_time_is_of_who_waits(clock):
    """Several devices at once take no more time than passes."""
    words: list[str] = []

    def encode() -> None:
        with step(Kind.LOAD, "loading"):
            clock[0] += 5

    with activity.watched(words.append) as watch, step(Kind.CLIPS):
        thread = threading.Thread(target=encode)
        thread.start()
        thread.join()
    assert (watch.spent(), words) == ("clips 5 s", ["loading"])


def test_a_failed_step_ends_and_nobody_watches_afterwards():
    """The next one is counted as ever; without a watch nothing happens."""
    with activity.watched(lambda _: None) as watch:
        with pytest.raises(ValueError, match="x"), step(Kind.LOAD):
            raise ValueError("x")
        watch.begin(Kind.CLIPS, "")
        watch.end()
    with step(Kind.PAGE, "unseen"):
        pass
    assert watch.seconds[Kind.PAGE] == 0


def test_without_a_terminal_there_is_a_line_for_each_stage_and_one_in_time(clock, capsys):
    """Which stage, how much of it, how long, how long it will take; what is being done where it takes long."""
    lines = progress.Lines(10)
    for item in ("pytorch · one", "pytorch · two", "tflite · one"):
        lines.advance(item)
        lines.doing("encoding")
        lines.tick()
        clock[0] += 20
    clock[0] += 15
    lines.tick()
    lines.tick()
    assert capsys.readouterr().err.splitlines() == [
        "parity: pytorch: 0 of 10, 0 s so far",
        "parity: tflite: 2 of 10, 40 s so far, about 2 min 40 s left",
        "parity: tflite · one · encoding: 2 of 10, 1 min 15 s so far, about 5 min 0 s left",
    ]


def test_a_long_step_is_not_silent(capsys, monkeypatch):
    """Said by a thread of its own, while the command is in one call."""
    monkeypatch.setattr(progress, "EVERY_S", 0.05)
    with progress.working("building tflite"), step(Kind.BUILD, "converting encoder.tflite"):
        time.sleep(0.3)
    assert capsys.readouterr().err.splitlines()[0] == "parity: building tflite · converting encoder.tflite: 0 s so far"
    assert not progress._tickers


def test_quiet_says_nothing(capsys):
    """And still knows where the time went."""
    with progress.progress(2, quiet=True) as (advance, watch), step(Kind.CLIPS, "decoding"):
        advance("pytorch · one")
    assert capsys.readouterr().err == ""
    assert watch.seconds[Kind.CLIPS] > 0


FORKING = """
import os, threading
seen = []
os.register_at_fork(before=lambda: seen.append(threading.active_count()))  # hooks before a fork run last to first
from whisper_parity.system import activity, progress
with progress.working("x"):
    if not (child := os.fork()):
        os._exit(len(activity._watches) + len(progress._tickers))
    print(*seen, os.waitpid(child, 0)[1], threading.active_count())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_no_thread_of_progress_is_there_when_a_process_is_forked():
    """A lock that it holds would be held for ever in the new process, which shows nothing; afterwards it goes on."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", FORKING], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "0", "2"]
