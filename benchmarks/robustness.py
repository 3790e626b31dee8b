"""What the commands do with spoiled inputs of every kind, and with being killed.

    python -m benchmarks.robustness [--cases 1000] [--seed 1] [--kind audio] [--kills 100]

Each case is one input, spoiled by a seed, and one command in a process of its own. It may end with exit codes 0 to 3
and one line for a stranger. A traceback, a death, a hang, foreign code that ran, a file that changed outside the
working folder, more than 1 GiB of memory, raw text at the terminal and the acceptance of what must be refused are
faults.

With --kills, `run`, `build`, `explain` and `approve` are killed (SIGKILL) at random moments and continued: nothing that
was recorded is lost or recorded twice, and the report equals that of a run that nobody disturbed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from benchmarks.hostile import killing
from benchmarks.hostile.trial import FAULTS
from whisper_parity.system.progress import progress
from whisper_parity.system.terminal import stdout, unfolded

Outcome = dict[str, Any]
"""A line of `benchmarks.hostile.trial`."""
ROOT = Path(__file__).resolve().parents[1]


def made(world: Path) -> Path:
    """The folder of the sound files, made where it is not there; in a process of its own, which may start threads."""
    process = _python("benchmarks.hostile.world", str(world))
    process.communicate()
    if process.returncode:
        raise SystemExit("the sound world could not be made: see above")
    return world


def outcomes(world: Path, count: int, seed: int, jobs: int = 2, kind: str | None = None) -> Iterator[Outcome]:
    """What became of each case, several processes side by side.

    Args:
        world: folder of the sound files.
        count: how many cases.
        seed: which ones.
        jobs: processes.
        kind: cases of this kind alone.
    """
    words = ["benchmarks.hostile.trial", str(world), "--count", str(count), "--seed", str(seed)]
    words += ["--kind", kind] if kind else []
    shares = [_python(*words, "--share", f"{i}/{jobs}") for i in range(jobs)]
    for share in shares:
        assert share.stdout is not None
        yield from map(json.loads, share.stdout)
    if any(share.wait() for share in shares):
        raise SystemExit("a process of the benchmark failed: see above")


def _python(module: str, *words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "PASSIVE"}
    return subprocess.Popen(
        [sys.executable, "-m", module, *words], env=environment, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )


def table(found: Sequence[Outcome]) -> Table:
    """A line for each kind of input: how its cases ended, and the faults among them."""
    grid = Table(show_footer=True, box=box.MARKDOWN)
    kinds = {
        kind: [each for each in found if each["kind"] == kind] for kind in dict.fromkeys(each["kind"] for each in found)
    }
    columns = {"input": list(kinds), "cases": [len(cases) for cases in kinds.values()]}
    for name, codes in (("accepted", (0,)), ("diverged", (1,)), ("refused", (2, 3))):
        columns[name] = [sum(each["exit_code"] in codes for each in cases) for cases in kinds.values()]
    for fault in FAULTS:
        columns[fault] = [sum(fault in each["faults"] for each in cases) for cases in kinds.values()]
    for name, values in columns.items():
        total = "all" if name == "input" else str(sum(values))
        grid.add_column(name, footer=total, justify="left" if name == "input" else "right")
    for values in zip(*columns.values()):
        grid.add_row(*map(str, values))
    return grid


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--kind", help="cases of this kind alone")
    parser.add_argument("--kills", type=int, default=0, metavar="N")
    given = parser.parse_args()
    screen = unfolded(stdout())
    with tempfile.TemporaryDirectory() as folder:
        world = made(Path(folder, "world"))
        found = []
        with progress(given.cases) as (advance, _):
            for outcome in outcomes(world, given.cases, given.seed, given.jobs, given.kind):
                found.append(outcome)
                advance(outcome["kind"])
        screen.print(table(found))
        for each in found:
            if each["faults"]:
                what = f"{each['kind']}: {each['what']!r}: parity {each['words']!r}"
                print(f"{', '.join(each['faults'])}: {what}: {each['output']!r}")
        if given.kills:
            screen.print(killing.table(killing.killed(world, given.kills, given.seed)))


if __name__ == "__main__":
    main()
