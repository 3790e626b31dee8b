"""Workers on this machine: processes with sessions of their own, which record into the run's folder.

With one thread a model, they are forked: they share what is imported. With more, or where this process has threads of
OpenMP by now, with which it cannot be forked safely, each is a fresh process that imports everything itself. A worker
computes with the run's number of threads, so its bits are those of any other process of the run. What it gives back is
judged; what becomes of it, the process that waits for it decides.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NoReturn

from whisper_parity.errors import MachineError
from whisper_parity.run.bench import Bench
from whisper_parity.run.board import Worker
from whisper_parity.run.crew import Event, Finished, Lost
from whisper_parity.run.journal import Journal
from whisper_parity.run.plan import Plan
from whisper_parity.run.tasks import Task
from whisper_parity.system import confine
from whisper_parity.system.ending import Terminated
from whisper_parity.system.process import exit_status

END_LIMIT_S = 10.0
"""For a worker that is asked to end, to close what it has open."""
STILLBORN = 3
"""Workers in a row that end before they could begin: then nobody is started any more."""


class Processes:
    """The workers of this machine."""

    def __init__(self, plan: Plan, count: int, resources: Sequence[str]) -> None:
        """Start them.

        Args:
            plan: the run.
            count: of workers for all that needs no device.
            resources: what a further worker each is for: the devices of a stage have room for one process.
        """
        self._plan = plan
        self._forks = forks(plan.threads)
        self._context: Any = multiprocessing.get_context("fork" if self._forks else "spawn")
        self._numbers = itertools.count(1)
        self._hired: dict[int, _Hired] = {}
        self._stillborn = 0
        for resource in (*[""] * count, *resources):
            self._start(resource)

    @property
    def workers(self) -> Sequence[Worker]:
        """See `Pool`."""
        return [hired.worker for hired in self._hired.values()]

    @property
    def free(self) -> Sequence[Worker]:
        """See `Pool`."""
        return [hired.worker for hired in self._hired.values() if hired.ready and not hired.busy]

    def give(self, worker: Worker, task: Task) -> None:
        """See `Pool`."""
        hired = self._hired[worker.number]
        hired.busy = True
        with suppress(OSError):  # it has just ended, as `wait` will say
            hired.pipe.send(task)

    def wait(self) -> Sequence[Event]:
        """See `Pool`."""
        pipes = {hired.pipe: hired for hired in self._hired.values()}
        ready = connection.wait(list(pipes))
        return [event for pipe in ready for event in self._heard(pipes[pipe])]  # type: ignore[index]

    def lacking(self, resource: str) -> str:
        """See `Pool`."""
        return f"no worker reaches {resource}"

    def close(self) -> None:
        """See `Pool`."""
        for hired in self._hired.values():
            hired.ask_to_end()
        for hired in self._hired.values():
            hired.end()
        self._hired.clear()

    def _heard(self, hired: _Hired) -> list[Event]:
        try:
            message = hired.pipe.recv()
        except (EOFError, OSError):
            return self._ended(hired)
        if message is None:
            hired.ready, self._stillborn = True, 0
            return []
        if isinstance(message, Finished):
            hired.busy = False
        return [(hired.worker, message)]

    def _ended(self, hired: _Hired) -> list[Event]:
        """One that ended is replaced."""
        hired.end()
        del self._hired[hired.worker.number]
        status = exit_status(hired.process.exitcode or 0)
        self._stillborn += not hired.ready
        if self._stillborn >= STILLBORN:
            raise MachineError(f"{STILLBORN} workers ended before they could begin ({status})", hint="Use --workers 1")
        self._start(hired.worker.resource)
        return [(hired.worker, Lost(f"ended ({status})"))]

    def _start(self, resource: str) -> None:
        worker = Worker(next(self._numbers), resource)
        ours, theirs = self._context.Pipe()
        inherited = [hired.pipe for hired in self._hired.values()]
        process = self._context.Process(
            target=_work,
            args=(self._plan, theirs, os.getpid(), [*inherited, ours] if self._forks else []),
            name=str(worker),
        )
        process.start()
        theirs.close()
        self._hired[worker.number] = _Hired(worker, process, ours)


class _Hired:
    """One worker, as the process that started it sees it."""

    def __init__(self, worker: Worker, process: BaseProcess, pipe: Connection) -> None:
        self.worker, self.process, self.pipe = worker, process, pipe
        self.ready = self.busy = False

    def ask_to_end(self) -> None:
        """Let it close what is open; in a task it is told by a signal."""
        with suppress(OSError):
            if self.busy:
                self.process.terminate()
            else:
                self.pipe.send(None)

    def end(self) -> None:
        """Wait for its end, and kill it when it does not."""
        self.process.join(END_LIMIT_S)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        self.pipe.close()


def forks(threads: int) -> bool:
    """Whether workers are forked, which shares what is imported: only from a process that has no threads but Python's.

    A pool such as OpenMP's is not there after a fork, and who uses it crashes.
    """
    return threads == 1 and hasattr(os, "fork") and not _native_threads()


def _native_threads() -> int:
    """How many threads of this process are not Python's; 1 where nothing tells."""
    known = {thread.native_id for thread in threading.enumerate()}
    try:
        return sum(int(task.name) not in known for task in Path("/proc/self/task").iterdir())
    except OSError:
        return 1


def _work(plan: Plan, pipe: Connection, parent: int, others: Sequence[Connection]) -> None:
    """What a worker does: one task after the other, until there is none or nobody who asks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits for this one
    signal.signal(signal.SIGTERM, _unwind)
    confine.end_with_parent(parent, signal.SIGTERM)
    for other in others:  # they are of the process that this one was forked from
        other.close()
    bench = Bench(plan, Journal(plan.folder.journal), comes_back=True)
    try:
        pipe.send(None)
        while (task := pipe.recv()) is not None:
            for result in bench.results(task):
                pipe.send(result)
            pipe.send(Finished())
    except (Terminated, EOFError, OSError):
        pass
    finally:
        with suppress(Terminated):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one, while it closes what is open
        bench.close()


def _unwind(*_: object) -> NoReturn:
    """Close what is open: a device, a process of a file that was given."""
    raise Terminated
