"""Stages side by side: those that follow are recorded in forked processes, while this one works on its own.

Only where a model has one thread and cores are left: a process that has threads of OpenMP cannot be forked safely. A
lane records a stage's cells and its checks into the run's folder, as this process would, with the same number of
threads, so with the same bits. It shares what is imported, and it decides nothing: what it did not record, because it
failed or was killed, is recorded again by this process, which says what is wrong.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn

from whisper_parity.backend.stage import Stage
from whisper_parity.system import confine, cores
from whisper_parity.system.ending import Terminated

END_LIMIT_S = 10.0
"""For a lane that is asked to end, to close what it has open."""


def width(threads: int) -> int:
    """How many stages may run at once, this process's among them.

    Args:
        threads: of every runtime.
    """
    return cores.available() if threads == 1 and hasattr(os, "fork") else 1


class Lanes:
    """The processes that work ahead of this one."""

    def __init__(self, record: Callable[[Stage], None], at_once: int) -> None:
        """Take what to do.

        Args:
            record: records a stage, in a process of its own.
            at_once: how many such processes run at a time.
        """
        self._record, self.at_once = record, at_once
        self._running: dict[str, int] = {}
        self._begun: set[str] = set()

    def start(self, stages: Sequence[Stage]) -> None:
        """Begin with the first of these stages that nobody has begun, as far as there is room."""
        for stage in stages:
            self._collect()
            if len(self._running) < self.at_once and stage.spec not in self._begun:
                self._begun.add(stage.spec)
                self._running[stage.spec] = self._forked(stage)

    def wait(self, stage: Stage, meanwhile: Sequence[Stage]) -> None:
        """Wait until a stage is recorded, if a lane does it; this process needs no core of its own so long.

        Args:
            stage: what this process works on next.
            meanwhile: stages that may be begun.
        """
        self._begun.add(stage.spec)
        if process := self._running.pop(stage.spec, None):
            self.start(meanwhile)
            os.waitpid(process, 0)

    def close(self) -> None:
        """End all."""
        for process in self._running.values():
            _end(process)
        self._running.clear()

    def _collect(self) -> None:
        """Forget those that have ended."""
        for spec, process in list(self._running.items()):
            if os.waitpid(process, os.WNOHANG)[0]:
                del self._running[spec]

    def _forked(self, stage: Stage) -> int:
        parent = os.getpid()
        if process := os.fork():
            return process
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits for this one
            signal.signal(signal.SIGTERM, _unwind)
            confine.end_with_parent(parent, signal.SIGTERM)
            self._record(stage)
        finally:
            os._exit(0)  # nothing of the other process's exit is done here


def _unwind(*_: object) -> NoReturn:
    """Close what is open: a device, a process of a file that was given."""
    raise Terminated


def _end(process: int) -> None:
    """Ask a process to end, and kill it when it does not."""
    with suppress(OSError):
        os.kill(process, signal.SIGTERM)
        deadline = time.monotonic() + END_LIMIT_S
        while not os.waitpid(process, os.WNOHANG)[0]:
            if time.monotonic() > deadline:
                os.kill(process, signal.SIGKILL)
            time.sleep(0.01)
