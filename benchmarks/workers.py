"""What workers are worth: `python -m benchmarks.workers [--checkpoint FILE] [--clips 200]`.

Synthetic clips, some of them repeated, through pytorch, torchscript and tflite, everything built before: one worker
with all threads, and two workers that share these out, in turns, so that other work on the machine meets both; the best
of each counts. Before that: what two processes can gain here at all, by the same bare loop once and twice at a time.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import shutil
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.watched import Watched, watch
from tests.support import sound
from whisper_parity.system import cores

STAGES = "pytorch,torchscript,tflite"
DISTINCT = 0.8
"""Share of the clips that are no repetition of another one."""


def main() -> None:
    """Run all and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="[the embedded micro checkpoint]")
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--cache", type=Path, help="[a new one]")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), arguments.checkpoint, arguments.clips, arguments.turns, arguments.cache)


def measure(folder: Path, checkpoint: Path | None, clips: int, turns: int, cache: Path | None) -> None:
    """All lines."""
    synthetic(folder / "clips", clips)
    chosen = ["--checkpoint", checkpoint] if checkpoint else []
    common = [*chosen, "--stages", STAGES, "--cache", cache or folder / "cache", "--report-dir", folder / "reports"]

    def run(name: str, *words: object, of: Path = folder / "clips") -> Watched:
        command = [sys.executable, "-m", "whisper_parity.cli", "run", "--clips", of, "--language", "en", *common]
        done = watch([*command, "--run-id", name, "--fresh", *words], folder)
        shutil.rmtree(folder / "reports" / name / "traces", ignore_errors=True)
        return done

    few = synthetic(folder / "few", 2)
    run("warm", "--workers", 1, of=few)
    all_cores = cores.available()
    print(f"{checkpoint or 'micro'}, {clips} clips, {STAGES}, {all_cores} cores")
    print(f"    two bare loops at once over one  {bare(2) / bare(1):6.2f} (of the machine as it is now)", flush=True)
    times: dict[str, list[float]] = {"one": [], "two": []}
    for turn in range(turns):
        for name, words in (
            ("one", ("--workers", 1, "--threads", all_cores)),
            ("two", ("--workers", 2, "--threads", max(1, all_cores // 2))),
        ):
            done = run(f"{name}{turn}", *words)
            times[name].append(clips_seconds(folder / "reports" / f"{name}{turn}"))
            print(
                f"    {name}: {done.wall_s:6.1f} s wall, {done.cpu_s:6.1f} s processor, {done.peak_gib:.2f} GiB",
                flush=True,
            )
    print(f"two workers over one                 {min(times['one']) / min(times['two']):6.2f} goal at least 1.6")


def synthetic(folder: Path, count: int) -> Path:
    """So many clips of one to four seconds; the last ones are repetitions."""
    folder.mkdir()
    distinct = max(1, round(count * DISTINCT))
    for number in range(count):
        seed = number % distinct
        samples = sound.warble(1.0 + seed % 30 / 10, seed=seed)
        sound.write_wav(folder / f"c{number:05}.wav", samples)
    return folder


def clips_seconds(run: Path) -> float:
    """Seconds of a run beside start and page."""
    return float(json.loads((run / "report.json").read_text())["seconds"])


def bare(processes: int) -> float:
    """Rounds a second of so many processes at once, one thread each."""
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pool.map(rounds, [0.2] * processes)  # what a process imports is no part of it
        started = time.perf_counter()
        done = sum(pool.map(rounds, [3.0] * processes, chunksize=1))
        return done / (time.perf_counter() - started)


def rounds(seconds: float) -> int:
    """How often a megabyte is hashed in so many seconds."""
    block, count, ends = bytes(1 << 20), 0, time.perf_counter() + seconds
    while time.perf_counter() < ends:
        hashlib.sha256(block)
        count += 1
    return count


if __name__ == "__main__":
    main()
