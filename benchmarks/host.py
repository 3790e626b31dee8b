"""What the harness costs on the host, as ratios taken in one run: `python -m benchmarks.host [--checkpoint FILE]`.

    (a) `parity run` of ten clips through four stages, nothing kept, without the check of state: its processor time over
        that of the same calls made bare, imports and loading included, and over the bare forward passes alone
    (b) the same again, traces of the checkpoint's stages kept: over the bare passes of the stages that are judged
    (c) the check of state and order, as a share of a run
    (d) building torchscript and tflite from an empty cache, over the bare calls of both converters
    (e) `make parity` with everything cached, over imports and the bare passes of the stages that run; micro only
    (f) peak memory of the run of (a), what processes share counted once [GiB]
    (g) one forward pass beside three busy processes, as threads wait by default and all cores, and as a run has it [s]
    (h) decoding one token a call, over verified drafts
    (i) one encoder and one decoder call of given files, in their confined child, over the same in this process

Ratios are of processor time (user and system, of all processes), which other work on the machine moves little; wall
times stand beside them. The clips are the embedded ones; without --checkpoint the model is the embedded micro one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import cast

import numpy as np

from benchmarks.watched import Watched, watch
from tests.support.checkout import CHECKOUT
from whisper_parity.backend.artifact import GIVEN
from whisper_parity.backend.build import obtain
from whisper_parity.backend.contract import Float32, Halves
from whisper_parity.backends.split.embedding import TokenEmbedding
from whisper_parity.clips import audio
from whisper_parity.clips.clip import Clip
from whisper_parity.decode import policy
from whisper_parity.decode.loop import decode
from whisper_parity.project import Project
from whisper_parity.run import report, schedule
from whisper_parity.run.options import RunOptions
from whisper_parity.run.plan import Plan, make
from whisper_parity.system import waiting

STAGES = ("whisper", "pytorch", "torchscript", "tflite")
JUDGED = STAGES[2:]
BARE = CHECKOUT / "benchmarks" / "bare.py"
BUSY = 3
"""Processes that keep a core each, for (g)."""


def main() -> None:
    """Run all and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="[the embedded micro checkpoint]")
    parser.add_argument("--clips", type=int, default=10, help="how many of the embedded ones [10]")
    parser.add_argument("--only", default="abcdefghi", help="lines to measure, as ab [all]")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), arguments.checkpoint, arguments.clips)
        print(
            f"{bench.plan.checkpoint.name}, {arguments.clips} clips, {len(STAGES)} stages, {bench.plan.threads} threads"
        )
        for letter, measure in LINES.items():
            if letter in arguments.only:
                for line in measure(bench):
                    print(f"({letter}) {line}", flush=True)


@dataclass
class Bench:
    """What the lines share; each thing is made when it is first asked for."""

    folder: Path
    checkpoint: Path | None
    count: int

    @cached_property
    def plan(self) -> Plan:
        """Of the run."""
        whole = make(self.options, Project(self.folder))
        return replace(whole, clips=whole.clips[: self.count])

    @property
    def options(self) -> RunOptions:
        """Of the run, in a cache of its own."""
        return RunOptions(
            checkpoint=str(self.checkpoint) if self.checkpoint else None, stages=STAGES, cache=self.folder / "cache",
            report_dir=self.folder / "reports", run_id="warm",
        )  # fmt: skip

    def run(self, name: str, *words: str) -> Watched:
        """`parity run` in a process of its own."""
        clips = ",".join(clip.name for clip in self.plan.clips)
        shared = ["--stages", ",".join(STAGES), "--report-dir", self.options.report_dir]
        return self.parity("run", "--clips", clips, *shared, "--run-id", name, *words)

    def parity(self, *words: object) -> Watched:
        """A command on the checkpoint and the cache."""
        chosen = ["--checkpoint", self.checkpoint] if self.checkpoint else []
        command = [sys.executable, "-m", "whisper_parity.cli", *words, *chosen, "--cache", self.options.cache]
        return watch(command, self.folder)

    def bare(self, *words: object) -> tuple[Watched, dict[str, list[float]]]:
        """The bare calls: the process, and (wall, processor) seconds by name; threads wait as in a run."""
        done = watch([sys.executable, BARE, *words], CHECKOUT, {waiting.POLICY: waiting.PASSIVE})
        return done, json.loads(done.output.splitlines()[-1])

    @cached_property
    def warm(self) -> None:
        """Artifacts, features, drafts and row checks are there, as in every run but the first."""
        self.run("warm", "--no-state")

    @cached_property
    def specification(self) -> Path:
        """What the bare calls are fed: what the run fed."""
        _ = self.warm
        with schedule.opened(self.plan) as running:
            files = {stage: obtain(self.plan.workshop, stage) for stage in JUDGED}
            table = TokenEmbedding(files["torchscript"].path("token_embedding"), self.plan.checkpoint.dims)
            clips = [fed(running, table, clip, self.folder) for clip in self.plan.clips]
        path = self.folder / "specification.json"
        path.write_text(json.dumps({
            "clips": clips, "threads": self.plan.threads, "checkpoint": str(self.plan.checkpoint.path),
            **{stage: {role: str(files[stage].path(role)) for role in ("encoder", "decoder")} for stage in JUDGED},
        }))  # fmt: skip
        return path

    @cached_property
    def forwards(self) -> tuple[Watched, dict[str, list[float]]]:
        """The bare calls of a run."""
        return self.bare("forwards", self.specification)

    @cached_property
    def first(self) -> Watched:
        """The run of (a)."""
        _ = self.warm
        return self.run("first", "--fresh", "--no-state")


def fed(running: schedule.Schedule, table: TokenEmbedding, clip: Clip, folder: Path) -> str:
    """A file with what one clip feeds to models: sound, features, tokens, embeddings."""
    trace, context = running.traces.get("pytorch", clip), running.plan.checkpoint.dims.n_text_ctx
    sequences = [(*window.header.prompt, *window.header.tokens)[:context] for window in trace.windows]
    path = folder / f"{clip.name}.npz"
    np.savez(
        path, samples=audio.load(clip.path), language=np.array(trace.header.language),
        features=np.stack([window.input_features for window in running.traces.features(clip, "pytorch").windows]),
        tokens=np.stack([np.pad(np.array(tokens), (0, context - len(tokens))) for tokens in sequences]),
        embeddings=np.stack([table.lookup(tokens) for tokens in sequences]),
    )  # fmt: skip
    return str(path)


def ratio(what: str, ours: float, theirs: float, goal: str, wall: str = "") -> str:
    """One line of the table: processor seconds over processor seconds."""
    return f"{what:<62} {ours / theirs:5.2f}   {goal:<14} {ours:6.1f} s over {theirs:.1f} s{wall}"


def of_run(bench: Bench) -> Iterator[str]:
    """(a)."""
    bare, times = bench.forwards
    walls = f"   wall {bench.first.wall_s:.1f} s over {bare.wall_s:.1f} s"
    yield ratio("run, nothing kept / the bare calls", bench.first.cpu_s, bare.cpu_s, "at most 1.10", walls)
    yield ratio("run, nothing kept / the bare passes alone", bench.first.cpu_s, passes(times, STAGES), "")


def of_second_run(bench: Bench) -> Iterator[str]:
    """(b)."""
    _ = bench.first
    second, (_, times) = bench.run("second", "--no-state"), bench.forwards
    theirs = passes(times, JUDGED) + times["imports"][1]
    yield ratio("run, the checkpoint's traces kept / imports and bare passes", second.cpu_s, theirs, "at most 1.30",
                f"   wall {second.wall_s:.1f} s")  # fmt: skip


def of_state(bench: Bench) -> Iterator[str]:
    """(c)."""
    _ = bench.warm
    bench.run("state", "--fresh")
    found = report.load(replace(bench.plan.folder, path=bench.options.report_dir / "state"))
    share = sum(check.seconds for check in found.states) / found.seconds
    yield f"{'check of state and order, share of a run (wall)':<62} {100 * share:4.1f} %  at most 10 %"


def of_build(bench: Bench) -> Iterator[str]:
    """(d)."""
    cache = bench.folder / "empty"
    words = ["build", "--stages", ",".join(JUDGED)]
    out = bench.folder / "bare"
    for place in (cache, out):
        place.mkdir()
    ours = replace(bench, folder=cache).parity(*words)
    theirs, _ = bench.bare("build", bench.plan.checkpoint.path, out)
    yield ratio("building torchscript and tflite / the bare calls", ours.cpu_s, theirs.cpu_s, "at most 1.10",
                f"   wall {ours.wall_s:.1f} s over {theirs.wall_s:.1f} s")  # fmt: skip


def of_make(bench: Bench) -> Iterator[str]:
    """(e): the second of two; the simulated device computes in LiteRT what tflite computes."""
    if bench.checkpoint:
        return
    for _ in range(2):
        made = watch(["make", "--silent", "parity"], CHECKOUT)
    _, times = Bench(bench.folder, None, len(make(bench.options, Project(bench.folder)).clips)).forwards
    theirs = times["imports"][1] + passes(times, JUDGED) + times["tflite"][1]
    used = made.cpu_s / made.wall_s
    yield ratio("make parity, all cached / imports and bare passes", made.cpu_s, theirs, "at most 1.30",
                f"   wall {made.wall_s:.1f} s on {used:.1f} cores")  # fmt: skip


def of_memory(bench: Bench) -> Iterator[str]:
    """(f)."""
    yield f"{'peak memory of the run':<62} {bench.first.peak_gib:5.2f}   at most 1.5 GiB"


def of_busy(bench: Bench) -> Iterator[str]:
    """(g)."""
    path, cores = bench.plan.checkpoint.path, os.cpu_count() or 1
    with busy(BUSY):
        before = one_pass(path, cores, None)
        now = one_pass(path, bench.plan.threads, waiting.PASSIVE)
    what = f"a pass beside {BUSY} busy processes, before / now (wall)"
    yield f"{what:<62} {before / now:5.2f}                  {before:6.2f} s over {now:.2f} s"


def one_pass(checkpoint: Path, threads: int, policy_of_waiting: str | None) -> float:
    """Wall seconds of a bare forward pass."""
    environment = {name: value for name, value in os.environ.items() if name != waiting.POLICY}
    environment |= {waiting.POLICY: policy_of_waiting} if policy_of_waiting else {}
    words = [sys.executable, str(BARE), "pass", str(checkpoint), str(threads)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1])["pass"][0])


@contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes that never wait."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def of_drafts(bench: Bench) -> Iterator[str]:
    """(h): on the first clip."""
    _ = bench.warm
    with schedule.opened(bench.plan) as running:
        clip = bench.plan.clips[0]
        trace = running.traces.get("pytorch", clip)
        features = running.traces.features(clip, "pytorch").windows[0].input_features
        decoding = policy.concrete(bench.plan.policy, bench.plan.checkpoint.dims, trace.header.language)
        tokens = trace.windows[0].header.tokens
        with running.sessions.session("tflite") as opened:
            session = cast(Halves, opened)
            output = session.encode(features)
            drafted = timed(partial(decode, session, decoding, output, tokens))
            stepwise = timed(partial(decode, session, decoding, output, (), step_by_step=True))
    yield f"{f'one token a call / a verified draft of {len(tokens)} tokens (wall)':<62} {stepwise / drafted:5.1f}"


def of_confinement(bench: Bench) -> Iterator[str]:
    """(i): own and given taken turn by turn; medians."""
    for stage in JUDGED:
        artifact, backend = obtain(bench.plan.workshop, stage), bench.plan.backends.of(stage)
        dims, threads = bench.plan.checkpoint.dims, bench.plan.threads
        features = np.zeros((1, dims.n_mels, dims.n_frames), np.float32)
        seconds: tuple[list[float], list[float]] = ([], [])
        with ExitStack() as stack:
            own = cast(Halves, stack.enter_context(backend.open(artifact, threads)))
            given = cast(Halves, stack.enter_context(backend.open(replace(artifact, origin=GIVEN), threads)))
            for turn in range(15):  # the first calls compile
                for session, taken in zip((own, given), seconds):
                    called = timed(partial(call_both, session, features))
                    taken += [called] if turn >= 3 else []
        own_s, given_s = map(statistics.median, seconds)
        yield f"{f'{stage} given / own, both calls (wall)':<62} {given_s / own_s:5.2f}   at most 1.05"


def call_both(session: Halves, features: Float32) -> None:
    """One encoder and one decoder call."""
    session.decode(range(30), session.encode(features), range(10, 30))


def timed(call: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def passes(times: dict[str, list[float]], stages: tuple[str, ...]) -> float:
    """Processor seconds of the bare passes of stages."""
    return sum(times[stage][1] for stage in stages)


LINES: dict[str, Callable[[Bench], Iterator[str]]] = {
    "a": of_run, "b": of_second_run, "c": of_state, "d": of_build, "e": of_make, "f": of_memory, "g": of_busy,
    "h": of_drafts, "i": of_confinement,
}  # fmt: skip


if __name__ == "__main__":
    main()
