"""How tasks are worked off: here one after the other, or by a crew of workers, wherever these are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from whisper_parity.run.bench import Bench
from whisper_parity.run.tasks import Result, Task


class Executor(Protocol):
    """**Protocol:** works off tasks: in this process with its devices, in processes, on the machines of a cluster."""

    def run(self, tasks: Sequence[Task], begins: Callable[[str], None]) -> Iterator[Result]:
        """What the tasks give, in the order in which it is done.

        Args:
            tasks: those of a batch before the next, references before what is judged against them, checks last.
            begins: called with what is worked on, once for each cell and each check.
        """

    def close(self) -> None:
        """Free what is open, end who works."""


class Serial:
    """Task after task, in this process; several devices of a stage share out its cells."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def run(self, tasks: Sequence[Task], begins: Callable[[str], None]) -> Iterator[Result]:
        """See `Executor`."""
        for task in tasks:
            yield from self._bench.results(task, begins)

    def close(self) -> None:
        """See `Executor`."""
        self._bench.close()
