"""A command with all that it starts: wall time, processor time, largest memory."""

from __future__ import annotations

import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

EVERY_S = 0.1
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Watched:
    """What a command took."""

    wall_s: float
    cpu_s: float
    """User and system time of the command and its descendants, to EVERY_S of each of them."""
    peak_gib: float
    """Largest sum of the proportional set sizes: memory that processes share counts once."""
    output: str


def watch(words: Sequence[object], folder: Path, environment: Mapping[str, str] | None = None) -> Watched:
    """Run a command to its end.

    Raises:
        RuntimeError: it failed.
    """
    started, before, peak = time.perf_counter(), of_children(), 0.0
    cpu: dict[int, float] = {}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        with subprocess.Popen(
            list(map(str, words)), cwd=folder, env={**os.environ, **(environment or {})}, stdout=output,
            stderr=subprocess.STDOUT,
        ) as process:  # fmt: skip
            while process.poll() is None:
                family = descendants(process.pid)
                cpu |= {pid: seconds for pid in family if (seconds := cpu_seconds(pid)) is not None}
                peak = max(peak, sum(proportional_gib(pid) for pid in family))
                time.sleep(EVERY_S)
        wall = time.perf_counter() - started
        output.seek(0)
        text = output.read()
    if process.returncode not in (0, 1):
        raise RuntimeError(f"{' '.join(map(str, words))}: exit code {process.returncode}\n{text[-2000:]}")
    return Watched(wall, max(sum(cpu.values()), of_children() - before), peak, text)


def of_children() -> float:
    """Processor time of what this process has waited for, to the last tick."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def descendants(root: int) -> list[int]:
    """A process and all that came from it, as long as their parents live."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit() and (fields := status(int(path.name))):
            children.setdefault(int(fields[1]), []).append(int(path.name))
    found: list[int] = []
    waiting = [root]
    while waiting:
        found.append(waiting.pop())
        waiting += children.get(found[-1], [])
    return found


def status(pid: int) -> list[str]:
    """Fields of /proc/PID/stat behind the command's name; empty when it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return []


def cpu_seconds(pid: int) -> float | None:
    """Processor time of one process; None when it ended."""
    fields = status(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS if fields else None


def proportional_gib(pid: int) -> float:
    """Its share of the memory that it has in use; 0 when it ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text("utf-8").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 2**20 for line in lines if line.startswith("Pss:")), 0.0)
