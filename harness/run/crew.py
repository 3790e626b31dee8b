"""A crew of workers, wherever they are: one process hands out what is to be done, and takes what comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from whisper_parity.errors import BackendError, UnavailableError
from whisper_parity.run import cell as cells
from whisper_parity.run.bench import Bench
from whisper_parity.run.board import Board, Worker
from whisper_parity.run.tasks import Checked, Judged, Result, Task


@dataclass(frozen=True, slots=True)
class Finished:
    """A worker has done its task."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A worker ended."""

    why: str
    """As a note says it behind its name: "ended (signal 9, Killed)"."""


Event = tuple[Worker, Result | Finished | Lost]


class Pool(Protocol):
    """**Protocol:** workers in one kind of place; who ends is replaced where that can be."""

    @property
    def workers(self) -> Sequence[Worker]:
        """All that there are now."""

    @property
    def free(self) -> Sequence[Worker]:
        """Those of them without a task."""

    def give(self, worker: Worker, task: Task) -> None:
        """Let a free worker begin with a task."""

    def wait(self) -> Sequence[Event]:
        """What happened since; waits until something has.

        Raises:
            MachineError: no worker can be had any more.
        """

    def lacking(self, resource: str) -> str:
        """What a user is told where no worker has this."""

    def close(self) -> None:
        """End all workers."""


class Crew:
    """Executes tasks by a pool of workers."""

    def __init__(self, bench: Bench, hire: Callable[[], Pool]) -> None:
        """Take who does the work.

        Args:
            bench: of this process, which does none of it.
            hire: makes the pool, when there is something to do.
        """
        self._bench, self._plan, self._hire = bench, bench.plan, hire
        self._pool: Pool | None = None

    def run(self, tasks: Sequence[Task], begins: Callable[[str], None]) -> Iterator[Result]:
        """See `Executor`: what is ahead of a worker's death is kept, the cell that it worked on is given to others."""
        board = Board(tasks, self._plan.backends.resource)
        self._pool = pool = self._hire()
        while not board.over:
            self._hand_out(board, pool)
            events = pool.wait() if len(pool.free) < len(pool.workers) else ()
            for result in self._results(board, pool, events):
                begins(_name(result))
                yield result

    def close(self) -> None:
        """See `Executor`."""
        if self._pool:
            self._pool.close()

    def _hand_out(self, board: Board, pool: Pool) -> None:
        for worker in pool.free:
            if task := board.next(worker, pool.workers):
                pool.give(worker, task)

    def _results(self, board: Board, pool: Pool, events: Sequence[Event]) -> Iterator[Result]:
        for worker, event in events:
            if isinstance(event, Lost):
                for task in board.lost(worker, event.why):
                    yield from self._given_up(board, task, self._words(board, task))
            elif isinstance(event, Finished):
                board.finished(worker)
            elif isinstance(event, Checked) or board.came(worker, event, pool.workers):
                yield _noted(event, board)
        if len(pool.free) == len(pool.workers):  # nobody works: what is ready now is ready for nobody
            for task in board.unreachable({worker.resource for worker in pool.workers}):
                why = UnavailableError(pool.lacking(self._plan.backends.resource(task.stage.spec)))
                yield from self._given_up(board, task, why)

    def _words(self, board: Board, task: Task) -> BackendError:
        reasons = board.reasons(task.cells[0].key if task.cells else ("", task.stage.spec))
        times = "once" if len(reasons) == 1 else f"{len(reasons)} times"
        return BackendError(
            f"{task.stage.spec} ended its worker {times}: {'; '.join(reasons)}",
            hint="Run this cell alone to see what it prints; a killed one may lack memory: use fewer --workers",
        )

    def _given_up(self, board: Board, task: Task, error: BackendError | UnavailableError) -> Iterator[Result]:
        board.give_up(task, str(error))
        for cell in task.cells:
            yield Judged(cells.of_error(self._plan, cell, error), missing=str(error))
        if not task.cells:
            yield Checked(task.stage, self._bench.uncheckable(task.stage, error))


def _noted(result: Result, board: Board) -> Result:
    """A row that says whether it was tried before."""
    if isinstance(result, Checked):
        return result
    notes = tuple(f"tried again, since {why}" for why in board.reasons((result.row.clip, result.row.stage)))
    return replace(result, row=replace(result.row, notes=(*result.row.notes, *notes))) if notes else result


def _name(result: Result) -> str:
    """As progress shows it."""
    if isinstance(result, Checked):
        return f"{result.stage.spec} · all clips"
    return f"{result.row.stage} · {result.row.clip}"
