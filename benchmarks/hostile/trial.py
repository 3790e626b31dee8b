"""One case in a process of its own, and what is wrong with how it ended.

    python -m benchmarks.hostile.trial WORLD --count 1000 --seed 1 --share 0/2

The process that reads this imports everything once and forks for each case; it writes one line of JSON for each.
"""

from __future__ import annotations

import argparse
import faulthandler
import hashlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.hostile.cases import MARKER, Case, case
from benchmarks.hostile.world import World, at_a_desk

LIMIT_S = 120.0
"""Longer than anything that a command may wait for by itself."""
MEMORY = 2**30
FAULTS = ("traceback", "died", "hang", "foreign code", "files outside", "memory", "raw text", "wrong acceptance")
"""What no case may lead to."""
BUG = "an error that nobody thought of"
CODES = (0, 1, 2, 3)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command dealt with a spoiled input."""

    kind: str
    what: str
    words: str
    exit_code: int
    seconds: float
    memory: int
    """Largest resident size of the process and its children [bytes]."""
    faults: tuple[str, ...]
    """Among FAULTS."""
    output: str
    """The end of what it wrote, for a case with faults."""


def perform(given: Case, world: World, folder: Path, inherited: int = 0) -> Outcome:
    """Make a case in a folder of its own, run its command there, and judge.

    Args:
        given: the case.
        world: of sound files.
        folder: that gets its working folder, and what lies outside that.
        inherited: memory of this process that is not the command's [bytes].
    """
    place, outside = folder / "work", folder / "outside"
    for path in (place, outside / "home"):
        path.mkdir(parents=True)
    (outside / "canary").write_text("mine", "utf-8")
    words = _made(given, place, folder / "words")
    before = _state(outside)
    started = time.monotonic()
    pid = _forked(words, world, place, outside, folder / "output")
    status, usage, hung = _waited(pid, started + LIMIT_S)
    output = (folder / "output").read_text("utf-8", "backslashreplace")
    code = os.waitstatus_to_exitcode(status)
    memory = usage.ru_maxrss * 1024 - inherited
    found = {
        "traceback": "Traceback (most recent call last)" in output or BUG in output,
        "died": not hung and code not in CODES,
        "hang": hung,
        "foreign code": any(folder.rglob(MARKER)),
        "files outside": _state(outside) != before,
        "memory": memory > MEMORY,
        "raw text": not _is_harmless(output),
        "wrong acceptance": given.must_be_refused and code == 0,
    }
    faults = tuple(name for name in FAULTS if found[name])
    shown = output[-1500:] if faults else ""
    return Outcome(given.kind, given.what, " ".join(words), code, time.monotonic() - started, memory, faults, shown)


def _made(given: Case, place: Path, answer: Path) -> list[str]:
    """Make the case in a process of its own: what that needs is not the command's memory."""
    if pid := os.fork():
        os.waitpid(pid, 0)
        return list(json.loads(answer.read_text("utf-8")))
    try:
        os.chdir(place)
        answer.write_text(json.dumps(given.make(place)), "utf-8")
    except BaseException:  # noqa: BLE001 - without an answer the benchmark ends
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(0)


def _forked(words: list[str], world: World, place: Path, outside: Path, output: Path) -> int:
    if pid := os.fork():
        return pid
    code = 99
    try:
        os.setsid()
        os.chdir(place)
        faulthandler.disable()  # a death is judged, not described
        target = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, number in ((nothing, 0), (target, 1), (target, 2)):
            os.dup2(source, number)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))
        os.environ |= {"HOME": str(outside / "home"), "WHISPER_PARITY_CACHE": str(world.cache),
                       "WHISPER_PARITY_TRUSTED": str(place / "trusted"), "TMPDIR": str(place)}  # fmt: skip
        tempfile.tempdir = None
        from whisper_parity.cli import main

        try:
            main(args=words, prog_name="parity")
        except SystemExit as ending:
            code = ending.code if isinstance(ending.code, int) else 0 if ending.code is None else 1
    except BaseException:  # noqa: BLE001 - this is what the benchmark looks for
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _waited(pid: int, deadline: float) -> tuple[int, resource.struct_rusage, bool]:
    while True:
        ended, status, usage = os.wait4(pid, os.WNOHANG)
        if ended:
            return status, usage, False
        if time.monotonic() > deadline:
            os.killpg(pid, signal.SIGKILL)
            _, status, usage = os.wait4(pid, 0)
            return status, usage, True
        time.sleep(0.005)


def _state(folder: Path) -> dict[str, str]:
    """Every file and its hash; adb itself keeps its key in the home folder."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in folder.rglob("*")
        if ".android" not in path.parts
    }


def _is_harmless(output: str) -> bool:
    """No control character but line breaks and tabs, no mark of direction, no command of a CI system."""
    lines = output.split("\n")
    controls = any(
        (ord(c) < 32 and c != "\t") or 127 <= ord(c) < 160 or c in "\u202e\u202d\u2066" for line in lines for c in line
    )
    return not controls and not any(line.lstrip().startswith(("::error", "##[")) for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world", type=Path)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--share", default="0/1", help="I/N: every N-th case from the I-th on")
    parser.add_argument("--kind", help="this kind alone")
    given = parser.parse_args()
    import torch  # noqa: F401 - once, before the forks
    import whisper  # noqa: F401

    from whisper_parity.backend.registry import Backends

    backends = Backends()
    for name in backends.names:
        backends.get(name)
    at_a_desk()
    share, shares = map(int, given.share.split("/"))
    world = World(given.world.absolute())
    for index in range(share, given.count, shares):
        drawn = case(world, given.seed, index)
        if given.kind in (None, drawn.kind):
            folder = Path(tempfile.mkdtemp(prefix="case-"))
            try:
                print(json.dumps(asdict(perform(drawn, world, folder))), flush=True)
            finally:
                shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
