"""Conversions in worker processes: what dies, hangs or aborts there is one line here.

Converters print to stdout, log from C++, hold gigabytes, and can die without an exception: none of that may reach the
harness. forkserver.py forks the workers.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, cast

from whisper_parity import errors
from whisper_parity.errors import BuildError, ParityError
from whisper_parity.system.activity import Kind, step
from whisper_parity.system.forkserver import last_line
from whisper_parity.system.process import exit_status, python_module

TIME_LIMIT_S = 1800.0
STOP_LIMIT_S = 30.0
"""Time limit for the fork server to kill its workers and end."""


@dataclass(frozen=True, slots=True)
class TaskResult:
    """How a worker ended."""

    exit_code: int
    last_line: str
    """The last line that it printed."""


@dataclass(frozen=True, slots=True)
class Job:
    """One file that a worker writes."""

    what: str
    """Its name in error messages."""
    path: Path
    task: Sequence[str]
    """Module and arguments, see forkserver.py."""


class Workers:
    """A fork server and its tasks."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._running: dict[int, Future[TaskResult]] = {}
        self._server_result: TaskResult | None = None
        self._cancelled = False
        self._lock = threading.Lock()
        self._log = TemporaryFile()  # noqa: SIM115 (closed by the listener)
        self._server = subprocess.Popen(
            python_module("whisper_parity.system.forkserver"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},  # conversion is single-threaded; idle threads only spin
        )
        self._commands, self._answers = cast("IO[str]", self._server.stdin), cast("IO[str]", self._server.stdout)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def prepare(self, task: Sequence[str]) -> None:
        """Let the server import what a task needs, in the background."""
        self._send({"prepare": [*task]})

    @contextmanager
    def doing(self, jobs: Sequence[Job]) -> Iterator[None]:
        """Run jobs in parallel to the `with` block, which ends when all are done.

        Raises:
            BuildError: one failed, crashed or exceeded TIME_LIMIT_S.
        """
        started = {self._start(job.task): job for job in jobs}
        try:
            with step(Kind.BUILD, f"converting {', '.join(job.path.name for job in jobs)}"):
                yield
                for run, job in started.items():
                    self._check(job, self._running[run])
        finally:
            for run in started:
                self._abandon(run)

    def stop(self) -> None:
        """Kill running tasks and end the server."""
        self._send(None)
        try:
            if self._cancelled:  # the server must kill the workers, and may have to finish an import first
                with suppress(subprocess.TimeoutExpired):
                    self._server.wait(STOP_LIMIT_S)
        finally:
            self._server.kill()
            self._server.wait()
            self._listener.join(STOP_LIMIT_S)

    def _start(self, task: Sequence[str]) -> int:
        with self._lock:
            run = next(self._numbers)
            future = self._running[run] = Future()
            if self._server_result:
                future.set_result(self._server_result)
        self._send({"run": run, "task": [*task]})
        return run

    def _check(self, job: Job, future: Future[TaskResult]) -> None:
        try:
            result = future.result(TIME_LIMIT_S)
        except FutureTimeoutError as error:
            raise BuildError(
                f"converting the {job.what} took more than {TIME_LIMIT_S:.0f} s",
                hint="Try again when the machine is less busy",
            ) from error
        if result.exit_code != 0 or not job.path.is_file():
            reason = (result.last_line or "it printed nothing") + _space(job, result)
            if own := _own_error(reason):
                raise own
            raise BuildError(f"converting the {job.what} failed ({exit_status(result.exit_code)}): {reason}")

    def _abandon(self, run: int) -> None:
        """Forget a task; one that still runs is killed first, so that nothing is written any more."""
        future = self._running[run]
        if not future.done():
            self._cancelled = True
            self._send({"cancel": run})
            with suppress(FutureTimeoutError):
                future.result(STOP_LIMIT_S)
        with self._lock:
            del self._running[run]

    def _send(self, command: dict[str, Any] | None) -> None:
        """Send a command; None ends all. A dead server is noticed by the listener."""
        with self._lock, suppress(OSError, ValueError):
            if command is None:
                self._commands.close()
                return
            self._commands.write(f"{json.dumps(command)}\n")
            self._commands.flush()

    def _listen(self) -> None:
        """Read answers until the server ends, then finish all tasks; only this thread may close what it reads."""
        with self._answers:
            for line in self._answers:
                answer = json.loads(line)
                self._finish(answer["run"], TaskResult(answer["exit_code"], answer["last_line"]))
        with self._log:
            server_result = TaskResult(self._server.wait(), last_line(self._log))
        with self._lock:
            self._server_result, running = server_result, [*self._running]
        for run in running:
            self._finish(run, server_result)

    def _finish(self, run: int, result: TaskResult) -> None:
        with self._lock:
            future = self._running.get(run)
        if future and not future.done():
            future.set_result(result)


def _space(job: Job, result: TaskResult) -> str:
    """How much space there is, where a file that a worker maps into memory may have had none; "" elsewhere."""
    if result.exit_code != -signal.SIGBUS:
        return ""
    return f"; {shutil.disk_usage(job.path.parent).free / 2**20:.1f} MiB are free on its disk"


_lock = threading.Lock()
_shared: list[Workers] = []
"""The shared instance, one entry per user."""


@contextmanager
def workers() -> Iterator[Workers]:
    """The shared workers of this process, stopped after their last user."""
    with _lock:
        _shared.append(_shared[0] if _shared else Workers())
        shared_workers = _shared[0]
    try:
        yield shared_workers
    finally:
        with _lock:
            _shared.pop()
            last = not _shared
        if last:
            shared_workers.stop()


def _own_error(line: str) -> ParityError | None:
    """The error of ours that ended a worker with its traceback's last line: what is wrong with the input, say."""
    named = re.match(rf"{errors.__name__}\.(\w+): (.+)", line)
    kind = getattr(errors, named[1], None) if named else None
    return kind(named[2]) if named and isinstance(kind, type) and issubclass(kind, ParityError) else None
