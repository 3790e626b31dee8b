"""Tasks for tests of the fork server: a worker's module, without a converter."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

PREPARED: list[str] = []
"""Filled in the server, seen by workers that were forked from it."""


def prepare(kind: str, *_: str) -> None:
    """As a converter's module does; of one kind it fails."""
    if kind == "cannot-prepare":
        raise ImportError("no such converter")
    PREPARED.append(kind)


def main(kind: str, target: str = "", other: str = "") -> None:
    """Do what the kind says."""
    if kind == "write":
        Path(target).write_text(" ".join(PREPARED))
    elif kind == "chatter":
        os.write(1, b'{"run": 0, "exit_code": 7, "last_line": "not an answer"}\n')
        Path(target).write_text(f"{sys.stdin.fileno()} {os.read(0, 1)!r}")
    elif kind == "cannot-prepare":
        prepare(kind)
    elif kind == "fail":
        while other and not (Path(other).exists() and Path(other).read_text()):
            time.sleep(0.01)
        sys.exit("this and\nno more")
    elif kind == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == "nothing":
        return
    elif kind == "meet":  # only side by side can each see the other's file
        Path(target).touch()
        while not Path(other).exists():
            time.sleep(0.01)
    elif kind == "hang":
        Path(target).write_text(str(os.getpid()))
        time.sleep(600)
