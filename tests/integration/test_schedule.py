"""Recording, then judging: whoever drives it, each file is read once, and devices share out the clips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import sound
from whisper_parity.backend.contract import Facts, Transcript, Usage
from whisper_parity.clips.clip import Clip
from whisper_parity.clips.features import Features
from whisper_parity.decode.policy import BUILT_IN
from whisper_parity.model.dims import Dims
from whisper_parity.project import Project
from whisper_parity.run import plan as plans
from whisper_parity.run import schedule, traces
from whisper_parity.run.cell import Cell
from whisper_parity.run.options import RunOptions
from whisper_parity.trace.record import Recorder, record

STAGES = ("pytorch", "torchscript", "tflite")


@pytest.fixture
def plan(tmp_path: Path, scripted_checkpoint: Path, cache_dir: Path) -> Callable[..., plans.Plan]:
    """A run of three stages on two clips."""
    clips = [sound.write_wav(tmp_path / f"{name}.wav", sound.warble(1.0, seed=i)) for i, name in enumerate("ab")]

    def make(**options: Any) -> plans.Plan:
        chosen = RunOptions(
            checkpoint=str(scripted_checkpoint), stages=STAGES, clips=tuple(map(str, clips)), language="en", threads=2,
            run_id="one", report_dir=tmp_path / "reports", cache=cache_dir, **options,
        )  # fmt: skip
        return plans.make(chosen, Project(tmp_path))

    return make


def test_judging_a_finished_run_reads_each_trace_once_a_cell_and_hashes_each_clip_once(plan, monkeypatch):
    """What the journal holds is not judged again. Without it, as in a run of an earlier version, a cell needs its own
    trace, its parent's and the root's; nothing is opened, and no clip is hashed again."""
    with schedule.opened(plan()) as running:
        list(running.rows(lambda _: None))
    read: Counter[str] = Counter()
    hashed: Counter[str] = Counter()
    load, clip_sha256 = traces.file.load, traces.clip_sha256
    monkeypatch.setattr(traces.file, "load", lambda path: (read.update([path.stem]), load(path))[1])
    monkeypatch.setattr(traces, "clip_sha256", lambda clip: (hashed.update([clip.name]), clip_sha256(clip))[1])
    made = plan()
    with schedule.opened(made) as running:
        assert len(list(running.rows(lambda _: None))) == 6
        assert (running.sessions.openings, read) == (0, Counter())
    hashed.clear()
    made.folder.journal.unlink()
    with schedule.opened(made) as running:
        for clip in made.clips:
            for stage in made.stages:
                before = Counter(read)
                running.row(Cell(stage, clip))
                assert max((read - before).values(), default=0) <= 1
        assert running.sessions.openings == 0
    assert set(hashed.values()) == {1}
    assert set(read.values()) == {1}  # clip by clip, parent and root are still in hand


class Devices:
    """Two devices that wait for each other: what is not shared out never ends."""

    size = 2

    def __init__(self, opened: Any) -> None:
        from threading import Barrier

        self._opened, self._together = opened, Barrier(2, timeout=20)

    @contextmanager
    def lease(self):
        self._together.wait()
        yield self._opened


@pytest.fixture
def two_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchscript, as if two devices ran it."""
    from whisper_parity.backends.torchscript import TorchScriptBackend

    opening = TorchScriptBackend.open

    @contextmanager
    def opened(self: TorchScriptBackend, artifact: Any, threads: int) -> Any:
        with opening(self, artifact, threads) as session:
            yield Devices(session)

    monkeypatch.setattr(TorchScriptBackend, "open", opened)
    monkeypatch.setattr(TorchScriptBackend, "width", lambda self, variant: 2, raising=False)


def test_clips_are_shared_out_among_devices_whoever_asks_for_the_first_row(plan, two_devices, monkeypatch):
    """The command line walks through all cells, pytest asks for single ones: the same driver serves both."""
    monkeypatch.setattr(traces.Traces, "warm_up", lambda self, stage: None)
    made = plan()
    script = made.stage("torchscript")
    with schedule.opened(made) as running:
        row = running.row(Cell(script, made.clips[1]))
        assert row.vs_parent is not None
        assert all(made.folder.trace(clip.name, "torchscript").is_file() for clip in made.clips)


class TranscribingDevice:
    """A program on a device: it meters what it spends."""

    facts = Facts("app 1.0 (a device)", notes=("an app",))

    def __init__(self) -> None:
        self.spent = 0

    def usage(self) -> Usage:
        spent, self.spent = self.spent, 0
        return Usage("a device", 0.5, spent, 7, None, ())

    def transcribe(self, samples: np.ndarray, language: str | None) -> Transcript:
        self.spent += len(samples)
        return Transcript("hello", (31373,), (), "en")


def test_what_a_program_spends_on_a_device_is_in_its_trace(clip):
    """Usage is asked of every kind of session, before and behind the clip."""
    dims = Dims(80, 1500, 64, 1, 1, 51865, 448, 64, 1, 1)
    features = Features((), 2.0, False, "audio")
    recorder = Recorder("app", TranscribingDevice(), "artifact", dims, BUILT_IN["plain"], lambda *_: [])
    trace = record(recorder, Clip("warble", clip), features, None, "en")
    assert trace.header.usage == Usage("a device", 0.5, 32_000, 14, None, ())
    assert (trace.header.label, trace.header.notes) == ("app 1.0 (a device)", ("an app",))


def test_a_window_that_reaches_the_limit_is_recorded_judged_and_read_back(plan, tmp_path):
    """Whisper's best known failure, a loop, ends at the limit of tokens: every later stage is still judged."""
    site = Project(tmp_path, policies={"short": {"base": "plain", "sample_len": 5}})
    made = plans.make(replace(plan().options, policy="short", run_id="short"), site)
    for _ in range(2):  # recorded, then read back
        with schedule.opened(made) as running:
            rows = list(running.rows(lambda _: None))
        assert [row.verdict.outcome.exit_code for row in rows] == [0] * len(rows), [row.verdict for row in rows]
    header = running.traces.get("tflite", made.clips[0]).header.windows[0]
    assert (header.ended, len(header.tokens), header.forced_limited) == ("length", 5, True)
    assert all("stopped at the policy's limit of tokens, not at end-of-text" in row.notes for row in rows)
