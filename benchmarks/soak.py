"""A thousand clips on three devices that fail again and again: `python -m benchmarks.soak [--clips 1000]`.

One is unplugged, one reboots, one hangs. Every clip has to be judged once.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path

from click.testing import CliRunner, Result

from tests.support.checkout import CHECKOUT
from tests.support.soaking import Soaked, soak
from whisper_parity.fixtures import scripted


def main() -> None:
    """Run it and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=1000)
    clips = parser.parse_args().clips
    cache = CHECKOUT / "build" / "benchmarks"
    checkpoint = scripted.kept(cache / "soak-12.pt", lambda: scripted.model(scripted.dimensions(), steps=12))
    with tempfile.TemporaryDirectory() as folder:
        done = soak(Path(folder), clips, lambda place: parity(place, checkpoint, cache), checkpoint, cache)
        say(done, clips)


def say(done: Soaked, clips: int) -> None:
    """What came of it; rows of many clips are read from the run's folder, which has to be there."""
    outcomes = Counter(row.verdict.outcome.value for row in done.report.rows if row.stage == "dla")
    notes = Counter(line.partition("]")[0] + "]" for line in done.notes.splitlines() if "[" in line)
    print(f"{clips} clips, exit code {done.result.exit_code}, verdicts on the devices: {dict(outcomes)}")
    print(f"judged more or less than once: {sum(count != 1 for count in done.judged.values())}")
    for note, count in notes.most_common():
        print(f"    {count:5} {note}")


def parity(folder: Path, checkpoint: Path, cache: Path):
    """The command line for a folder, as the tests have it."""

    def call(*words: object) -> Result:
        from whisper_parity.cli import main as command

        common = ["--checkpoint", checkpoint, "--cache", cache, "--threads", 1]
        reports = ["--report-dir", folder / "reports"] if words[0] == "run" else []
        return CliRunner().invoke(command, [*map(str, words), *map(str, common), *map(str, reports)])

    return call


if __name__ == "__main__":
    main()
