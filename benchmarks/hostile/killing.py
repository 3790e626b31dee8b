"""Commands that are killed at a random moment and then continued."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from rich import box
from rich.table import Table

from benchmarks.hostile.world import OF_THE_CALLER, World
from whisper_parity.run.finished import CELL
from whisper_parity.run.journal import Journal

STAGES = "pytorch,torchscript,tflite"
CLIPS = 3
TIMES = (
    "seconds",
    "created",
    "build_seconds",
    "device_s",
    "encode_s",
    "decode_s",
    "origin",
    "note",
    "cause",
    "reproduce",
    "probes",
    "runs",
    "recorded",
    "kept",
    "kept_s",
)
"""What no two runs have in common: times, and how much was left to do."""
COMMANDS = ("run", "retained", "build", "explain", "approve")
"""retained: a run that drops traces."""


@dataclass(frozen=True, slots=True)
class Killed:
    """One command that was killed, and then continued."""

    command: str
    after_s: float
    """When it was killed, from its start; the command may have ended before."""
    was_running: bool
    lost: int
    """Files that were complete when it was killed, and are gone or others after the continuation."""
    twice: int
    """Traces that were recorded again."""
    partial: int
    """Temporary folders and files that the continuation left."""
    differs: bool
    """Whether the result is not that of a command that nobody disturbed."""
    exit_code: int
    """Of the continuation."""


class Site:
    """A folder in which one command is killed, and the command."""

    def __init__(self, world: World, folder: Path, command: str) -> None:
        self.world, self.folder, self.command = world, folder, command
        for i in range(CLIPS):
            (folder / "clips").mkdir(exist_ok=True)
            shutil.copy(
                world.clip.with_suffix((".wav", ".flac", ".mp3")[i]),
                folder / "clips" / f"c{i}{('.wav', '.flac', '.mp3')[i]}",
            )
        self.cache = folder / "cache" if command == "build" else world.cache
        if command in ("explain", "approve"):
            shutil.copytree(
                world.run, folder / "reports" / "sound", ignore=shutil.ignore_patterns("explain", "index.html")
            )

    @property
    def words(self) -> list[str]:
        """What is typed."""
        shared = [
            "--checkpoint",
            str(self.world.checkpoint),
            "--threads",
            "1",
            "--stages",
            STAGES,
            "--cache",
            str(self.cache),
        ]
        clips = ["--clips", "clips", "--language", "en", "--report-dir", "reports", "--run-id", "sound"]
        return {
            "run": ["run", *clips, *shared],
            "retained": ["run", "--traces", "worst:1", *clips, *shared],
            "build": ["build", "--out", "artifacts", *shared],
            "explain": ["explain", "warble", "--stage", "tflite", "--run", "reports/sound"],
            "approve": ["approve", "reports/sound", "--name", "sound"],
        }[self.command]

    def start(self) -> subprocess.Popen[bytes]:
        """Type it."""
        environment = {
            **os.environ,
            "WHISPER_PARITY_CACHE": str(self.cache),
            "OMP_WAIT_POLICY": "PASSIVE",
            "TMPDIR": str(self.folder),
        }
        for name in OF_THE_CALLER:
            environment.pop(name, None)
        return subprocess.Popen(
            [sys.executable, "-m", "whisper_parity.cli", *self.words], cwd=self.folder, env=environment,
            start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def complete(self) -> dict[str, tuple[int, int] | str]:
        """What a finished step leaves for good: (inode, time) of traces and artifacts, the lines of finished cells."""
        places = [*self.folder.glob("reports/*/traces/*.safetensors"), *self.folder.glob("cache/*/*.lineage.json")]
        files = {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in places}
        cells = {str(line.key): line.value for path in self.folder.glob("reports/*/journal.jsonl")
                 for line in Journal(path).records(CELL)}  # fmt: skip
        return {**(files if self.command != "retained" else {}), **cells}

    def result(self) -> Any:
        """What the command is for, without its times."""
        pattern = {
            "run": "reports/sound/report.json",
            "retained": "reports/sound/report.json",
            "build": "artifacts/*.lineage.json",
            "explain": "reports/sound/explain/*.json",
            "approve": "fixtures/approved/*.json",
        }[self.command]  # fmt: skip
        files = sorted(self.folder.glob(pattern))
        return [timeless(json.loads(path.read_text("utf-8"))) for path in files] if files else None

    def left(self) -> int:
        """Temporary files that nobody removed."""
        return sum(".partial" in path.name for path in self.folder.rglob("*"))


def killed(world: Path, count: int, seed: int, commands: Sequence[str] = COMMANDS) -> Iterator[Killed]:
    """So many commands, each killed at a random moment between its start and its end, and continued."""
    sound = World(world.absolute())
    for command in commands:  # the second time nothing is built, as in those that are killed
        _undisturbed(sound, command)
    undisturbed = {command: _undisturbed(sound, command) for command in commands}
    for i in range(count):
        random, command = Random(f"{seed} {i}"), commands[i % len(commands)]
        expected, duration = undisturbed[command]
        with _site(sound, command) as site:
            yield _killed(site, random.uniform(0.05, duration), expected)


def _killed(site: Site, after_s: float, expected: Any) -> Killed:
    process = site.start()
    time.sleep(after_s)
    was_running = process.poll() is None
    os.killpg(process.pid, signal.SIGKILL) if was_running else None
    process.wait()
    before = site.complete()
    again = site.start()
    code = again.wait()
    after = site.complete()
    changed = {path for path, facts in before.items() if after.get(path) != facts}
    twice = sum(path in after for path in changed)
    return Killed(
        site.command, after_s, was_running, len(changed) - twice, twice, site.left(), site.result() != expected, code
    )


def _undisturbed(world: World, command: str) -> tuple[Any, float]:
    with _site(world, command) as site:
        started = time.monotonic()
        site.start().wait()
        return site.result(), time.monotonic() - started


class _site:  # noqa: N801 - a context manager
    """A site in a temporary folder."""

    def __init__(self, world: World, command: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="kill-", ignore_cleanup_errors=True)
        self._site: Callable[[], Site] = lambda: Site(world, Path(self._folder.name), command)

    def __enter__(self) -> Site:
        return self._site()

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()


def timeless(value: Any) -> Any:
    """A result without what no two runs have in common."""
    if isinstance(value, dict):
        return {key: timeless(inner) for key, inner in value.items() if key not in TIMES}
    return [timeless(inner) for inner in value] if isinstance(value, list) else value


def table(found: Iterator[Killed] | Sequence[Killed]) -> Table:
    """A line for each command."""
    cases = list(found)
    grid = Table(show_footer=True, box=box.MARKDOWN)
    rows = {command: [each for each in cases if each.command == command] for command in COMMANDS}
    columns = {
        "killed": list(rows), "times": [len(each) for each in rows.values()],
        "while it ran": [sum(one.was_running for one in each) for each in rows.values()],
        "lost": [sum(one.lost for one in each) for each in rows.values()],
        "recorded twice": [sum(one.twice for one in each) for each in rows.values()],
        "left behind": [sum(one.partial for one in each) for each in rows.values()],
        "other result": [sum(one.differs for one in each) for each in rows.values()],
        "continuation failed": [sum(one.exit_code != 0 for one in each) for each in rows.values()],
    }  # fmt: skip
    for name, values in columns.items():
        grid.add_column(
            name,
            footer="all" if name == "killed" else str(sum(values)),
            justify="left" if name == "killed" else "right",
        )
    for values in zip(*columns.values()):
        grid.add_row(*map(str, values))
    return grid
