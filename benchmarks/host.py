"""What the harness costs on the host, as ratios taken in one run: `python -m benchmarks.host [--size base]`.

    (a) run time of the three model stages, models loaded, over the sum of the bare forward passes
    (b) the same decoding one token a call, over verified drafts
    (c) building torchscript and tflite together [s]
    (d) `make parity` with everything cached [s]
    (e) peak memory of a whole run, artifacts built [GiB]
    (f) one encoder and one decoder call of given files, in their confined child, over the same in this process; and how
        much longer they take to open [s]

Weights are random (fixtures/scripted.py), of the dimensions of a published Whisper; clips are 5 to 11 s long.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np

from tests.support import sound
from tests.support.checkout import CHECKOUT
from whisper_parity.backend.artifact import GIVEN
from whisper_parity.backend.build import obtain
from whisper_parity.backend.contract import Float32, Halves
from whisper_parity.clips import features
from whisper_parity.clips.clip import Clip
from whisper_parity.decode import policy
from whisper_parity.decode.loop import decode
from whisper_parity.fixtures import scripted
from whisper_parity.project import Project
from whisper_parity.run import schedule
from whisper_parity.run.cell import Cell, judged
from whisper_parity.run.options import RunOptions
from whisper_parity.run.plan import Plan, make
from whisper_parity.run.schedule import Schedule
from whisper_parity.run.traces import Traces

SIZES = {"tiny": (384, 6, 4), "base": (512, 8, 6), "small": (768, 12, 12)}
"""State, heads, layers."""
STAGES = ("pytorch", "torchscript", "tflite")


def main() -> None:
    """Run all and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="base")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        checkpoint = random_checkpoint(arguments.size)
        clips = make_clips(folder)
        options = RunOptions(
            checkpoint=str(checkpoint),
            stages=STAGES,
            clips=tuple(map(str, clips)),
            language="en",
            threads=2,
            report_dir=folder / "reports",
            cache=folder / "cache",
            run_id="warm",
        )
        built = build_seconds(options)
        peak = peak_memory_gib(options)
        overhead, stepwise = run_ratios(options, arguments.repeats)
        confined = {stage: confinement(options, stage, 4 * arguments.repeats) for stage in STAGES[1:]}
    print(f"whisper {arguments.size} dimensions, random weights, {len(clips)} clips, 2 threads")
    print(f"(a) harness over bare forward passes   {overhead:6.2f}   goal at most 1.15")
    print(f"(b) step by step over verified drafts  {stepwise:6.1f}   goal at least 10")
    print(f"(c) build torchscript and tflite       {built:6.1f} s goal at most 20")
    print(f"(d) make parity, all cached            {parity_seconds():6.1f} s goal at most 15")
    print(f"(e) peak memory of a run               {peak:6.2f} GiB goal below 2.5")
    for stage, (ratio, opening) in confined.items():
        print(f"(f) {stage:<11} given over own        {ratio:6.2f}   goal at most 1.05 (opens {opening:.1f} s later)")


def random_checkpoint(size: str) -> Path:
    """A checkpoint of published dimensions with random weights, 25 tokens long."""
    state, heads, layers = SIZES[size]
    dims = scripted.dimensions(n_state=state, n_layer=layers)
    dims.n_audio_head = dims.n_text_head = heads
    path = CHECKOUT / "build" / "benchmarks" / f"{size}-25-fp16.pt"
    return scripted.kept(path, lambda: scripted.model(dims, steps=25).half())  # as published: fp16


def make_clips(folder: Path) -> list[Path]:
    """Three clips of 5, 8 and 11 s."""
    return [sound.write_wav(folder / f"clip-{s}s.wav", sound.warble(s, seed=s)) for s in (5, 8, 11)]


def build_seconds(options: RunOptions) -> float:
    """(c): from an empty cache."""
    started = time.perf_counter()
    run_cli("build", "--checkpoint", options.checkpoint, "--cache", options.cache, "--stages", "torchscript,tflite")
    return time.perf_counter() - started


def peak_memory_gib(options: RunOptions) -> float:
    """(e): largest resident set of a run in a process of its own, artifacts built; warms features and drafts too."""
    run_cli(
        "run",
        "--checkpoint",
        options.checkpoint,
        "--cache",
        options.cache,
        "--stages",
        ",".join(STAGES),
        "--threads",
        2,
        "--clips",
        ",".join(options.clips),
        "--language",
        "en",
        "--report-dir",
        options.report_dir,
        "--run-id",
        "warm",
    )
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20


def run_ratios(options: RunOptions, repeats: int) -> tuple[float, float]:
    """(a) over all clips and (b) on the first, bare passes and rows taken turn by turn."""
    plan = make(options, Project(Path()))
    shutil.rmtree(plan.folder.path)
    bare = whole = naive = drafted = 0.0
    with schedule.opened(plan) as running:
        for stage in plan.stages:
            for clip in plan.clips:
                cell = Cell(stage, clip)
                running.row(cell)  # outside the clock: first calls import, allocate and compile
                passes = Passes(running, plan, stage.spec, clip)
                for _ in range(repeats):
                    remove_trace(plan, stage.spec, clip.name)
                    bare += timed(passes.bare)
                    whole += timed(partial(judged, plan, cell, Traces(plan, running.sessions)))
                if clip is plan.clips[0]:
                    drafted += timed(passes.drafted)
                    naive += timed(passes.step_by_step)
    return whole / bare, naive / drafted


class Passes:
    """What is timed of one stage on one clip, its model loaded."""

    def __init__(self, running: Schedule, plan: Plan, stage: str, clip: Clip) -> None:
        with running.sessions.session(stage) as session:
            self.session = cast(Halves, session)  # it stays open with the schedule
        self.plan = policy.concrete(plan.policy, plan.checkpoint.dims, "en")
        self.features = features.clip_features(plan.options.cache, clip, 80).windows[0].input_features
        self.tokens = running.traces.get(stage, clip).header.windows[0].tokens

    def bare(self) -> None:
        """One encoder and one decoder call."""
        fed = [*self.plan.prompt, *self.tokens]
        self.session.decode(fed, self.session.encode(self.features), range(len(self.plan.prompt) - 1, len(fed)))

    def drafted(self) -> None:
        """Encode and decode by the verified draft."""
        decode(self.session, self.plan, self.session.encode(self.features), self.tokens)

    def step_by_step(self) -> None:
        """Encode and decode one token a call."""
        decode(self.session, self.plan, self.session.encode(self.features), (), step_by_step=True)


def confinement(options: RunOptions, stage: str, repeats: int) -> tuple[float, float]:
    """(f) of a stage: own and given taken turn by turn; medians."""
    workshop = make(options, Project(Path())).workshop
    artifact, backend = obtain(workshop, stage), workshop.backends.of(stage)
    features = np.zeros((1, 80, 3000), np.float32)
    seconds: tuple[list[float], list[float]] = ([], [])
    with ExitStack() as stack:
        started = time.perf_counter()
        own = cast(Halves, stack.enter_context(backend.open(artifact, 2)))
        opened = time.perf_counter()
        given = cast(Halves, stack.enter_context(backend.open(replace(artifact, origin=GIVEN), 2)))
        later = (time.perf_counter() - opened) - (opened - started)
        for turn in range(repeats + 3):  # the first calls compile
            for session, taken in zip((own, given), seconds):
                called = timed(partial(one_pass, session, features))
                taken += [called] if turn >= 3 else []
    return statistics.median(seconds[1]) / statistics.median(seconds[0]), later


def one_pass(session: Halves, features: Float32) -> None:
    """One encoder and one decoder call."""
    session.decode(range(30), session.encode(features), range(10, 30))


def remove_trace(plan: Plan, stage: str, clip: str) -> None:
    """Let the next row record again."""
    plan.folder.trace(clip, stage).unlink()


def timed(call: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def parity_seconds() -> float:
    """(d): the second of two."""
    for _ in range(2):
        started = time.perf_counter()
        subprocess.run(["make", "--silent", "parity"], cwd=CHECKOUT, check=True, capture_output=True)
        seconds = time.perf_counter() - started
    return seconds


def run_cli(*words: object) -> None:
    """`parity ...` in a process of its own."""
    subprocess.run(
        [sys.executable, "-m", "whisper_parity.cli", *map(str, words)], check=True, cwd=CHECKOUT, capture_output=True
    )


if __name__ == "__main__":
    main()
