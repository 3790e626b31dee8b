"""Who does what next: cells in the order of what they need, given to workers that have their stage open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from whisper_parity.backend.stage import Stage
from whisper_parity.run.cell import Cell
from whisper_parity.run.tasks import TRIES, Judged, Task

IN_WORK = 6
"""Batches that are begun and not done: what waits for its last stage is bounded, and so are the traces kept for it."""
HOPELESS = 3
"""Cells of a stage that were given up one after the other: those behind them are tried once."""
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Worker:
    """Somebody who does one task at a time."""

    number: int
    resource: str = ""
    """What it alone reaches, a device for one, and does nothing without; "" for a worker like any other."""
    place: str = ""
    """The machine, where there are several."""

    def __str__(self) -> str:
        """As notes and messages call it."""
        return f"worker {self.number}" + (f" on {self.place}" if self.place else "")


class Board:
    """What waits, and what is in hand."""

    def __init__(self, tasks: Iterable[Task], resource: Callable[[str], str], in_work: int = IN_WORK) -> None:
        """Take what is to be done.

        Args:
            tasks: batch by batch, with the checks behind them.
            resource: what a worker must have for a stage, by its name; "" where any will do.
            in_work: batches that are worked on at a time.
        """
        work = sorted(tasks, key=lambda task: task.batch)
        self._resource, self._in_work = resource, in_work
        self._checks = [task for task in work if not task.cells]
        self._batches = (list(group) for _, group in groupby((t for t in work if t.cells), lambda task: task.batch))
        self._left = Counter({task.stage.spec: 0 for task in work})
        self._left.update(task.stage.spec for task in work for _ in task.cells)
        self._waiting: list[Task] = []
        self._in_hand: dict[int, tuple[Task, list[Cell]]] = {}
        """By worker: its task, and which of its cells are not done."""
        self._stage: dict[int, str] = {}
        """By worker: what it has open."""
        self._unsettled: dict[int, Counter[str]] = {}
        """Of the batches that are begun: by stage, how many cells are not done."""
        self._batch: dict[Key, int] = {}
        """Of their cells."""
        self._missing: dict[int, dict[Key, str]] = {}
        self._reasons: dict[Key, list[str]] = {}
        self._failed_by: dict[Key, set[int]] = {}
        """Workers whose device went away while they worked on a cell."""
        self._given_up: Counter[str] = Counter()
        self._begin()

    @property
    def over(self) -> bool:
        """Whether everything is done."""
        return not (self._waiting or self._in_hand or self._checks)

    def next(self, worker: Worker, crew: Sequence[Worker]) -> Task | None:
        """What a free worker does now; None where nothing is ready for it.

        Args:
            worker: who asks.
            crew: all that there are.
        """
        ready = [task for task in self._ready() if self._suits(task, worker, crew)]
        if not ready:
            return None
        chosen = self._chosen(ready, worker)
        if worker.resource:
            chosen = self._joined([task for task in ready if task.stage == chosen.stage], bool(chosen.cells))
        else:
            self._take(chosen)
        missing = {key: why for batch in self._missing.values() for key, why in batch.items()}
        self._in_hand[worker.number] = chosen, list(chosen.cells)
        self._stage[worker.number] = chosen.stage.spec
        return replace(chosen, missing=missing)

    def came(self, worker: Worker, judged: Judged, crew: Sequence[Worker]) -> bool:
        """A cell of the task in hand is done; False where it is given to another worker instead."""
        _, left = self._in_hand[worker.number]
        cell = next(cell for cell in left if cell.key == (judged.row.clip, judged.row.stage))
        left.remove(cell)
        if judged.elsewhere:
            self._failed_by.setdefault(cell.key, set()).add(worker.number)
            others = self._others(cell, worker, crew)
            if others and self._again(cell.key, Task(cell.stage, (cell,)), f"{worker}: {judged.missing}"):
                return False
        self._settle(cell, judged.missing)
        return True

    def finished(self, worker: Worker) -> None:
        """A worker has done all of its task."""
        del self._in_hand[worker.number]

    def lost(self, worker: Worker, why: str) -> tuple[Task, ...]:
        """A worker ended; what it had in hand goes to others.

        Args:
            worker: which one.
            why: how it ended, as a note says it behind its name.

        Returns:
            What is given up, since it was tried often enough: the cell that it worked on, or the checks.
        """
        self._stage.pop(worker.number, None)
        task, left = self._in_hand.pop(worker.number, (None, []))
        if task is None or (task.cells and not left):
            return ()
        for cell in left[1:]:
            self._wait(Task(cell.stage, (cell,)))
        first = replace(task, cells=tuple(left[:1]))
        if self._again(left[0].key if left else ("", task.stage.spec), first, f"{worker} {why}"):
            return ()
        self._given_up[task.stage.spec] += 1
        return (first,)

    def give_up(self, task: Task, why: str) -> None:
        """Nobody does these cells any more: what is judged against them is told so."""
        for cell in task.cells:
            self._settle(cell, why)

    def reasons(self, key: Key) -> Sequence[str]:
        """Why a cell was tried again: a line for each time; of a stage's checks under ("", stage)."""
        return self._reasons.get(key, ())

    def unreachable(self, offered: Iterable[str]) -> tuple[Task, ...]:
        """Take off the board what is ready and nobody can do, given what workers have."""
        resources = set(offered)
        tasks = tuple(task for task in self._ready() if self._resource(task.stage.spec) not in resources)
        for task in tasks:
            self._take(task)
        return tasks

    def _ready(self) -> list[Task]:
        """What could be begun now."""
        work = [task for task in self._waiting if not any(self._unsettled[task.batch][n] for n in needs(task.stage))]
        return work + [task for task in self._checks if not self._left[task.stage.spec]]

    def _suits(self, task: Task, worker: Worker, crew: Sequence[Worker]) -> bool:
        """Whether a worker has what it takes; one whose device went away leaves what it failed on to others."""
        if self._resource(task.stage.spec) != worker.resource:
            return False
        return not any(
            worker.number in self._failed_by.get(cell.key, ()) and self._others(cell, worker, crew)
            for cell in task.cells
        )

    def _others(self, cell: Cell, worker: Worker, crew: Sequence[Worker]) -> list[Worker]:
        """Workers that could do a cell as well, and have not failed on it."""
        failed = self._failed_by.get(cell.key, set())
        return [other for other in crew if other.resource == worker.resource and other.number not in failed]

    def _chosen(self, ready: Sequence[Task], worker: Worker) -> Task:
        """Of the stage that the worker has open; else of one that few others work on, with the most to do."""
        others = Counter(spec for number, spec in self._stage.items() if number != worker.number)
        amount = Counter[str]()
        for task in ready:
            amount[task.stage.spec] += len(task.cells)

        def rank(task: Task) -> tuple[bool, int, int, int]:
            spec = task.stage.spec
            return spec != self._stage.get(worker.number), others[spec], -amount[spec], task.batch

        return min(ready, key=rank)

    def _joined(self, tasks: Sequence[Task], of_cells: bool) -> Task:
        """One task of several of a stage: its devices share out all that is ready."""
        parts = [task for task in tasks if bool(task.cells) == of_cells]
        for task in parts:
            self._take(task)
        return replace(parts[0], cells=tuple(cell for task in parts for cell in task.cells))

    def _take(self, task: Task) -> None:
        (self._waiting if task.cells else self._checks).remove(task)

    def _again(self, key: Key, task: Task, why: str) -> bool:
        """Let a cell, or a stage's checks, be tried once more; False where that was done often enough."""
        reasons = self._reasons.setdefault(key, [])
        reasons.append(why)
        if len(reasons) >= (1 if self._given_up[task.stage.spec] >= HOPELESS else TRIES):
            return False
        self._wait(task)
        return True

    def _wait(self, task: Task) -> None:
        """Put back what was in hand."""
        if task.cells:
            self._waiting.insert(0, replace(task, batch=self._batch[task.cells[0].key], missing={}))
        else:
            self._checks.append(replace(task, missing={}))

    def _settle(self, cell: Cell, missing: str) -> None:
        """A cell has its row."""
        batch = self._batch.pop(cell.key)
        self._failed_by.pop(cell.key, None)
        self._unsettled[batch][cell.stage.spec] -= 1
        self._left[cell.stage.spec] -= 1
        if missing:
            self._missing.setdefault(batch, {})[cell.key] = missing
        else:
            self._given_up[cell.stage.spec] = 0
        if not any(self._unsettled[batch].values()):
            del self._unsettled[batch]
            self._missing.pop(batch, None)
            self._begin()

    def _begin(self) -> None:
        """Let further batches wait for workers, as far as there is room."""
        while len(self._unsettled) < self._in_work and (batch := next(self._batches, None)):
            self._unsettled[batch[0].batch] = Counter(task.stage.spec for task in batch for _ in task.cells)
            self._batch |= {cell.key: task.batch for task in batch for cell in task.cells}
            self._waiting += batch


def needs(stage: Stage) -> Iterator[str]:
    """Stages whose traces one is judged against, and drafted from."""
    return (spec for spec in (stage.parent, stage.root) if spec is not None)
