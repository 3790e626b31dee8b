"""What thousands of clips cost beside their forwards: memory, time a cell, the journal, report and page.

    python -m benchmarks.scale [--clips 2000] [--few 200] [--cells 10000] [--small]

Clips of the embedded model's kind, a part of them repeated, go through pytorch, torchscript and tflite in one process,
a few and then all. Every figure is a ratio within one call, or a time on this machine:

- peak memory of all clips over that of the few;
- processor time of a further cell that is neither a forward, nor the decoding of audio, nor opening a model;
- share of the journal in the time of the run;
- `parity report` of so many cells, and the first paint of the page where a browser is installed;
- bytes a clip on the disk, with all traces and without.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from whisper_parity import project
from whisper_parity.backends.pytorch import PyTorchSession
from whisper_parity.backends.tflite.session import TFLiteSession
from whisper_parity.backends.torchscript import TorchScriptSession
from whisper_parity.clips import audio, features, selection
from whisper_parity.project import Project
from whisper_parity.run import batches, pages, schedule, tally
from whisper_parity.run import plan as plans
from whisper_parity.run import report as records
from whisper_parity.run.collect import collect
from whisper_parity.run.excerpt import Excerpt
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.journal import Journal
from whisper_parity.run.options import RunOptions
from whisper_parity.run.report import Report, Row
from whisper_parity.run.sessions import Sessions
from whisper_parity.system import serial

STAGES = ("pytorch", "torchscript", "tflite")
REPEATED = 10
"""Every so many clips one is there a second time."""
RATE = 16_000
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def write_clips(folder: Path, count: int) -> Path:
    """So many clips: the short ones of the embedded set, each a little softer than the one before; and a manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    spoken = [clip for clip in selection.select(("all",)).clips if clip.text and clip.language]
    sounds = [(clip, audio.load(clip.path)) for clip in spoken]
    short = sorted(sounds, key=lambda pair: len(pair[1]))[:6]
    lines = []
    for number in range(count):
        clip, samples = short[number % len(short)]
        source = number - 1 if number % REPEATED == REPEATED - 1 else number
        name = f"clip-{number:05}"
        _write(folder / f"{name}.wav", samples * (1 - 1e-5 * source))
        lines.append({"audio_filepath": f"{name}.wav", "name": name, "text": clip.text, "lang": clip.language})
    listed = folder / "clips.jsonl"
    listed.write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")
    return listed


def _write(path: Path, samples: Any) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())


class Clock:
    """Processor time inside functions, by name; what is called inside one of them counts there alone.

    Of the processor, since another process beside this one makes a run longer and costs the harness nothing.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.passed: dict[str, float] = {}
        """By the clock on the wall: a disk takes no processor's time."""
        self._depth = 0

    def watch(self, holder: Any, name: str, as_what: str) -> None:
        """Replace a function by one that is timed."""
        function: Callable[..., Any] = getattr(holder, name)

        def timed(*words: Any, **named: Any) -> Any:
            if self._depth:
                return function(*words, **named)
            self._depth, started, begun = 1, time.process_time(), time.perf_counter()
            try:
                return function(*words, **named)
            finally:
                self._depth = 0
                self.seconds[as_what] = self.seconds.get(as_what, 0.0) + time.process_time() - started
                self.passed[as_what] = self.passed.get(as_what, 0.0) + time.perf_counter() - begun

        setattr(holder, name, timed)


def measured(listed: Path, folder: Path, traces: str | None, checkpoint: str | None = None) -> dict[str, float]:
    """One run in this process, and where its time went."""
    clock = Clock()
    for kind in (PyTorchSession, TorchScriptSession, TFLiteSession):
        for forward in ("encode", "decode", "greedy"):
            if hasattr(kind, forward):
                clock.watch(kind, forward, "forwards")
    clock.watch(features, "compute", "audio")
    clock.watch(Sessions, "_opened", "opening")
    clock.watch(Sessions, "artifact", "opening")
    clock.watch(Journal, "append", "journal")
    clock.watch(Journal, "sync", "journal")
    options = RunOptions(
        stages=STAGES, clips=(str(listed),), run_id="run", report_dir=folder, threads=1, workers=1,
        cache=project.cache(), checkpoint=checkpoint, fresh=True, no_state=True, traces=traces,
    )  # fmt: skip
    plan = plans.make(options, Project(folder))
    cells = len(plan.stages) * len(plan.clips)
    with schedule.opened(plan) as running:
        started, begun = time.process_time(), time.perf_counter()
        for _ in running.rows(lambda _: None):
            pass
        spent, wall = time.process_time() - started, time.perf_counter() - begun
        running.close()
        begun = time.perf_counter()
        collect(plan, wall)
    kept = sum(path.stat().st_size for path in plan.folder.path.rglob("*") if path.is_file())
    own = spent - sum(seconds for what, seconds in clock.seconds.items() if what != "journal")
    return {
        "cells": cells, "wall": wall, "own": own, **clock.seconds, "journal_share": clock.passed["journal"] / wall,
        "collect": time.perf_counter() - begun, "bytes": kept,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }  # fmt: skip


def in_process(listed: Path, folder: Path, checkpoint: str, traces: str = "") -> dict[str, float]:
    """The same in a process of its own, whose peak of memory is its own."""
    words = [sys.executable, "-m", "benchmarks.scale", "--one", str(listed), str(folder), traces, checkpoint]
    output = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
    return dict(json.loads(output.splitlines()[-1]))


def enlarged(folder: RunFolder, cells: int) -> None:
    """Make the report of a run one of so many cells, by repeating its rows under other names."""
    report = records.load(folder)
    totals, excerpt = tally.of_rows(_repeated(report.rows, cells)), Excerpt()
    for row in _repeated(report.rows, cells):
        excerpt.add(row)
    written = pages.write(folder, map(serial.line, _repeated(report.rows, cells)))
    large: Report = dataclasses.replace(
        report, rows=(), pages=written, totals=tuple(totals.values()), excerpt=excerpt.rows(), clips=excerpt.clips
    )
    serial.write(folder.report, large)


def _repeated(rows: Sequence[Row], cells: int) -> Iterator[Row]:
    few = list(rows[: min(len(rows), 3 * batches.BATCH)])
    for number in range(cells):
        row = few[number % len(few)]
        yield dataclasses.replace(row, clip=f"{row.clip}-{number // len(few)}")


def seconds_of(*words: str) -> float:
    """The best of three of a command."""
    times = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        times.append(time.perf_counter() - started)
    return min(times)


def painted_ms(page: Path) -> float | None:
    """First contentful paint; None without a browser."""
    program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    if program is None or find_spec("playwright") is None:
        return None
    from playwright.sync_api import sync_playwright

    with sync_playwright() as tools:
        browser, times = tools.chromium.launch(executable_path=program), []
        for _ in range(3):
            shown = browser.new_page()
            shown.goto(page.absolute().as_uri())
            shown.wait_for_function("performance.getEntriesByName('first-contentful-paint').length > 0")
            times.append(shown.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
        browser.close()
    return float(min(times))


def report(clips: int, few: int, cells: int, checkpoint: str, place: Path) -> Iterator[str]:
    """All figures, a line each."""
    from whisper_parity.report.html import page

    one, other = (
        in_process(write_clips(place / f"clips-{count}", count), place / f"runs-{count}", checkpoint)
        for count in (few, clips)
    )
    ratio, mib = other["peak"] / one["peak"], other["peak"] / 2**20
    yield f"peak memory: {mib:.0f} MiB of {clips} clips, {ratio:.3f} times that of {few}"
    further = other["cells"] - one["cells"]
    own, forwards = (1e3 * (other[name] - one[name]) / further for name in ("own", "forwards"))
    yield f"beside forwards, audio and opening: {own:.2f} ms a further cell, where forwards take {forwards:.1f} ms"
    yield f"journal: {other['journal_share']:.2%} of the time"
    yield f"report written in {other['collect']:.1f} s"
    whole = in_process(place / f"clips-{few}" / "clips.jsonl", place / "runs-all", checkpoint, "all")
    with_traces, without = whole["bytes"] / few / 2**20, other["bytes"] / clips / 2**20
    yield f"on the disk: {with_traces:.2f} MiB a clip with all traces, {without:.3f} MiB with those of the worst"
    run = RunFolder(place / f"runs-{clips}" / "run")
    started = time.perf_counter()
    page.write(run)
    took, size = time.perf_counter() - started, run.page.stat().st_size / 2**20
    yield f"page of {clips} clips: written in {took:.1f} s, {size:.1f} MiB"
    paint = painted_ms(run.page)
    yield "first paint: no browser here" if paint is None else f"first paint: {paint:.0f} ms"
    enlarged(run, cells)
    nothing = seconds_of("-c", "pass")
    shown = seconds_of("-m", "whisper_parity.cli", "report", str(run.path))
    yield f"parity report of {cells} cells: {shown:.2f} s, of which a Python that does nothing {nothing:.2f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--few", type=int, default=200)
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--checkpoint", default="", help="another model than the embedded one")
    parser.add_argument("--small", action="store_true", help="120 clips, 60, and 2,000 cells")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        listed, folder, traces, checkpoint = given.one
        print(json.dumps(measured(Path(listed), Path(folder), traces or None, checkpoint or None)))
        return
    sizes = (120, 60, 2000) if given.small else (given.clips, given.few, given.cells)
    with tempfile.TemporaryDirectory() as place:
        for line in report(*sizes, given.checkpoint, Path(place)):
            print(line, flush=True)


if __name__ == "__main__":
    main()
