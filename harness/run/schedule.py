"""The flow of a run, whoever drives it: cells are recorded, judged and written down; stages are checked.

Batch by batch of clips, and in a batch stage by stage: a model opens once where clips are few, and what a run holds is
that of a batch where they are many. What the journal has of an earlier part of the run is not done again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace

from whisper_parity.backend.stage import Stage
from whisper_parity.run import conditions, executors, owner
from whisper_parity.run.bench import Bench
from whisper_parity.run.cell import Cell
from whisper_parity.run.compact import SHORT
from whisper_parity.run.journal import Journal, Record
from whisper_parity.run.plan import Plan, remember
from whisper_parity.run.release import Release
from whisper_parity.run.report import OrderCheck, Row
from whisper_parity.run.sessions import Sessions
from whisper_parity.run.tasks import Judged, Result, Task, every_cell
from whisper_parity.run.traces import Traces
from whisper_parity.system import cache


class Schedule:
    """A running plan: gives the judged row of each cell, and the checks of each stage."""

    def __init__(
        self, plan: Plan, journal: Journal, selection: Sequence[Cell] | None = None, *, alone: bool = True
    ) -> None:
        """Take what is to be run.

        Args:
            plan: the run.
            journal: of the run.
            selection: the cells that will be asked for; None for all of them.
            alone: whether no other process works on the same run; workers and devices share out clips only then.
        """
        self.plan = plan
        self.journal = journal
        self.remarks: tuple[str, ...] = ()
        """What a reader must know of the run itself, in words: what an earlier process left unfinished."""
        self._bench = Bench(plan, journal)
        self._selection = every_cell(plan) if selection is None else tuple(selection)
        self._work = executors.of(self._bench, journal, self._selection, alone=alone)
        self._stream: Iterator[Result] | None = None
        self._rows: dict[tuple[str, str], Row] = {}
        self._checks: dict[str, tuple[OrderCheck, ...]] = {}

    @property
    def sessions(self) -> Sessions:
        """Of this process."""
        return self._bench.sessions

    @property
    def traces(self) -> Traces:
        """Of the run, as this process reads and records them."""
        return self._bench.traces

    def close(self) -> None:
        """Free what is open, and end who works."""
        self._work.executor.close()
        self._bench.close()

    def rows(self, advance: Callable[[str], None]) -> Iterator[Row]:
        """Every selected cell, judged, as they are done, and the checks of the stages; traces that do not stay go.

        Args:
            advance: called with what is being worked on.
        """
        release = Release(self.plan, self._selection)
        for result in self._results(advance):
            if isinstance(result, Judged):
                release.add(result.row)
                yield result.row
        release.end()

    def row(self, cell: Cell) -> Row:
        """One cell, judged; where workers are at work, as soon as one of them has done it.

        One that an earlier part of the run has finished is read from the journal.
        """
        if not self._work.at_once:
            return self._alone(cell)
        while cell.key not in self._rows and self._proceed():
            pass
        return self._rows.pop(cell.key) if cell.key in self._rows else self._alone(cell)

    def order_checks(self, stage: Stage) -> tuple[OrderCheck, ...]:
        """Whether a stage's results depend on what ran before; asked once its cells have run."""
        while self._work.at_once and stage.spec not in self._checks and self._proceed():
            pass
        return self._checks[stage.spec] if stage.spec in self._checks else self._bench.checks(stage)

    def _alone(self, cell: Cell) -> Row:
        """A cell of a batch, by this process."""
        if row := self._bench.finished.find(cell):
            return row
        batch = self._bench.begin_batch_of(cell.clip)
        beside = [other for other in self._selection if other.stage == cell.stage and other.clip in batch]
        self._bench.prepare(cell.stage, [other for other in beside if self._bench.finished.find(other) is None])
        return self._written(self._bench.judged(cell)).row

    def _proceed(self) -> bool:
        """Take the next result of who works; False where there is none any more."""
        if self._stream is None:
            self._stream = self._results(lambda _: None)
        result = next(self._stream, None)
        if isinstance(result, Judged):
            self._rows[result.row.clip, result.row.stage] = result.row
        elif result is not None:
            self._checks[result.stage.spec] = result.checks
        return result is not None

    def _results(self, advance: Callable[[str], None]) -> Iterator[Result]:
        """What the journal has, and what is done now: all at once where several work, else task by task."""
        tasks = self._work.tasks
        for group in [tasks] if self._work.at_once else [(task,) for task in tasks]:
            left: list[Task] = []
            for task in group:
                undone: list[Cell] = []
                for cell in task.cells:
                    if row := self._bench.finished.find(cell):
                        advance(str(cell))
                        yield Judged(row)
                    else:
                        undone.append(cell)
                if undone or not task.cells:
                    left.append(replace(task, cells=tuple(undone)))
            for result in self._work.executor.run(left, advance) if left else ():
                yield self._written(result) if isinstance(result, Judged) else result

    def _written(self, judged: Judged) -> Judged:
        """A cell, in the journal before anybody counts it."""
        if judged.short:
            self.journal.append(Record.of(SHORT, (judged.row.clip, judged.row.stage), judged.short))
        self._bench.finished.add(judged.row, judged.decided_by)
        return judged


@contextmanager
def opened(plan: Plan, selection: Sequence[Cell] | None = None, *, alone: bool = True) -> Iterator[Schedule]:
    """Bind a plan to its folder and run it; leaving the context frees the open stage.

    Args:
        plan: the run.
        selection: the cells that will be asked for; None for all of them.
        alone: see `Schedule`.

    Raises:
        UsageError: a run of this name was made under other conditions, or another process works on it.
        RecordError: its journal is damaged.
    """
    with (
        owner.owned(plan.folder.without_links()) if alone else nullcontext("") as taken_over,
        cache.in_use(plan.options.cache),
        _bound(plan) as journal,
    ):
        for path in (plan.checkpoint.path, *(clip.path for clip in plan.clips)):
            if path.is_relative_to(plan.options.cache):
                cache.touch(path)
        schedule = Schedule(plan, journal, selection, alone=alone)
        cut = f"the last line of {plan.folder.journal.name} was cut off: its work is done again"
        schedule.remarks = tuple(filter(None, (taken_over, cut if journal.dropped else "")))
        try:
            yield schedule
        finally:
            schedule.close()
    cache.prune(plan.options.cache, plan.options.cache_bytes)


@contextmanager
def _bound(plan: Plan) -> Iterator[Journal]:
    """The journal of a run whose folder is bound to a plan."""
    conditions.bind(plan)
    remember(plan)
    with Journal.open(plan.folder) as journal:
        yield journal
