"""One process's place of work: its sessions and traces, by which it records a cell and then judges it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from whisper_parity.backend.stage import Stage
from whisper_parity.clips.clip import Clip
from whisper_parity.errors import OutputError, ParityError, first_line
from whisper_parity.run import cell as cells
from whisper_parity.run import compact, order_checks
from whisper_parity.run.cell import Cell
from whisper_parity.run.compact import Compact
from whisper_parity.run.finished import FinishedCells
from whisper_parity.run.journal import Journal
from whisper_parity.run.plan import Plan
from whisper_parity.run.report import OrderCheck, Row
from whisper_parity.run.sessions import Sessions
from whisper_parity.run.tasks import TRIES, Checked, Judged, Result, Task
from whisper_parity.run.traces import Traces
from whisper_parity.system import heap
from whisper_parity.system.activity import Kind, step
from whisper_parity.system.crash import reported
from whisper_parity.system.threads import side_by_side


class Bench:
    """Records cells and judges them; holds one stage open."""

    def __init__(self, plan: Plan, journal: Journal, *, comes_back: bool | None = None) -> None:
        """Take a run.

        Args:
            plan: the run.
            journal: of the run, where stages and where they ran are noted.
            comes_back: whether stages are used in turns; None: as the number of batches says.
        """
        self.plan = plan
        self._journal = journal
        turns = len(plan.batches) > 1 if comes_back is None else comes_back
        self.sessions = Sessions(plan, journal, comes_back=turns)
        self.traces = Traces(plan, self.sessions)
        self.finished = FinishedCells(plan, self.traces, journal)
        self._batch_of = {clip.name: batch for batch in plan.batches for clip in batch}
        self._failed: dict[tuple[str, str], ParityError | None] = {}
        """Of every cell that was tried: why it has no trace; None where it has one."""
        self._notes: dict[tuple[str, str], str] = {}

    def close(self) -> None:
        """Free the open stage."""
        self.sessions.close()

    def results(self, task: Task, begins: Callable[[str], None] = lambda _: None) -> Iterator[Result]:
        """What a task gives, cell by cell in its order, or the checks of its stage.

        Args:
            task: what to do.
            begins: called with the name of each cell before it is worked on.
        """
        if not task.cells:
            begins(str(task))
            yield Checked(task.stage, self.checks(task.stage))
            return
        self.begin(task)
        for cell in task.cells:
            begins(str(cell))
            yield self.judged(cell)

    def begin(self, task: Task) -> None:
        """The cells of a task are in work from now on."""
        self.traces.batch = tuple(cell.clip for cell in task.cells)
        self.traces.missing = task.missing
        heap.give_back()
        self.prepare(task.stage, task.cells)

    def begin_batch_of(self, clip: Clip) -> Sequence[Clip]:
        """The batch of the run that a clip is in, which is in work from now on."""
        batch = self._batch_of[clip.name]
        if batch is not self.traces.batch:
            self._failed.clear()
            heap.give_back()
        self.traces.batch = batch
        return batch

    def prepare(self, stage: Stage, work: Sequence[Cell]) -> None:
        """Record cells of a stage side by side, where it runs on several devices; nothing of one that does not."""
        width = self.plan.backends.width(stage.spec)
        left = [cell for cell in work if cell.key not in self._failed]
        if width < 2 or not left:
            return
        self._record_references(stage, left)
        self.sessions.prepare(stage.spec)
        self.traces.warm_up(stage.spec)
        for cell, error in side_by_side(lambda cell: (cell, self._recorded(cell)), left, width):
            self._failed[cell.key] = error

    def judged(self, cell: Cell) -> Judged:
        """Record a cell, and judge it; errors become verdicts, other cells go on."""
        if cell.key not in self._failed:
            self._failed[cell.key] = self._recorded(cell)
        error = self._failed.pop(cell.key)
        row = self._row(cell, error)
        if note := self._notes.pop(cell.key, ""):
            row = replace(row, notes=(*row.notes, note))
        missing = "" if error is None else str(error)
        return Judged(
            row,
            self.finished.decided_by(cell, row),
            missing,
            short=None if error or not row.label else self._short(cell),
            elsewhere=error is not None and error.elsewhere,
        )

    def _short(self, cell: Cell) -> Compact | None:
        """What stays of a cell's trace where that may go."""
        if self.plan.keeps.everything:
            return None
        own = self.traces.get(cell.stage.spec, cell.clip)
        parent = self.traces.get(cell.stage.parent, cell.clip) if cell.stage.parent else None
        return compact.of_trace(own, parent)

    def checks(self, stage: Stage) -> tuple[OrderCheck, ...]:
        """Whether a stage's results depend on what ran before; asked once its cells have run."""
        self.traces.batch = self.plan.batches[-1]
        with step(Kind.STATE, "state check"):
            return order_checks.of_stage(self.plan, self.sessions, self.traces, stage, self._journal)

    def uncheckable(self, stage: Stage, error: ParityError) -> tuple[OrderCheck, ...]:
        """Write down that a stage could not be checked."""
        return order_checks.of_error(self.plan, stage, error, self._journal)

    def _row(self, cell: Cell, error: ParityError | None) -> Row:
        try:
            if error is not None:
                raise error
            with self._reported():
                return cells.judged(self.plan, cell, self.traces)
        except ParityError as reason:
            return cells.of_error(self.plan, cell, reason)

    def _recorded(self, cell: Cell, tries: int = TRIES) -> ParityError | None:
        """Why a cell could not be recorded; where its device went away and there are others, one of these tries."""
        try:
            with self._reported():
                self.traces.get(cell.stage.spec, cell.clip)
        except ParityError as error:
            if not error.elsewhere or tries == 1 or self.plan.backends.width(cell.stage.spec) == 1:
                return error
            self._notes[cell.key] = f"tried again, since {error}"
            return self._recorded(cell, tries - 1)
        return None

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """An error that nobody thought of, or one of the system, is one of ours: a row, and the others go on."""
        try:
            with reported(self.plan.folder.crashes):
                yield
        except OSError as error:
            raise OutputError(first_line(error), hint="Check free space and permissions") from error

    def _record_references(self, stage: Stage, work: Sequence[Cell]) -> None:
        """What these cells are judged against, first: no thread may open another stage."""
        for reference in dict.fromkeys((self.plan.root, stage.root, stage.parent)):
            for cell in work:
                if reference is not None and reference != stage.spec:
                    with suppress(ParityError), self._reported():  # it shows in the cell that is judged against it
                        self.traces.get(reference, cell.clip)
