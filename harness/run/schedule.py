"""The flow of a run, whoever drives it: record a cell, judge it, write it down.

Batch by batch of clips, and in a batch stage by stage: a model opens once where clips are few, and what a run holds is
that of a batch where they are many. What the journal has of an earlier part of the run is not done again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Protocol, TypeVar

from whisper_parity.backend.stage import Stage
from whisper_parity.clips.clip import Clip
from whisper_parity.errors import OutputError, ParityError, first_line
from whisper_parity.run import cell as cells
from whisper_parity.run import compact, conditions, lanes, order_checks, owner
from whisper_parity.run.cell import Cell
from whisper_parity.run.finished import FinishedCells
from whisper_parity.run.journal import Journal, Record
from whisper_parity.run.lanes import Lanes
from whisper_parity.run.plan import Plan, remember
from whisper_parity.run.report import OrderCheck, Row
from whisper_parity.run.retention import Retention
from whisper_parity.run.sessions import Sessions
from whisper_parity.run.traces import Traces
from whisper_parity.system import cache
from whisper_parity.system.activity import Kind, step
from whisper_parity.system.crash import reported
from whisper_parity.system.threads import side_by_side

R = TypeVar("R")


class Executor(Protocol):
    """**Protocol:** how cells of one stage are recorded; processes and clusters fit in here."""

    ahead: bool
    """Whether the whole stage is worked off as soon as its first cell is asked for."""

    def map(self, do: Callable[[Cell], R], work: Sequence[Cell]) -> Iterator[R]:
        """What `do` gives for each cell, in their order."""


class Serial:
    """Each cell when it is asked for."""

    ahead = False

    def map(self, do: Callable[[Cell], R], work: Sequence[Cell]) -> Iterator[R]:
        """See `Executor`."""
        return map(do, work)


class SideBySide:
    """As many cells at once as a stage has devices."""

    ahead = True

    def __init__(self, width: int) -> None:
        self._width = width

    def map(self, do: Callable[[Cell], R], work: Sequence[Cell]) -> Iterator[R]:
        """See `Executor`."""
        return side_by_side(do, work, self._width)


def every_cell(plan: Plan) -> tuple[Cell, ...]:
    """All cells of a plan in the order in which they run: batch by batch, stage by stage."""
    return tuple(Cell(stage, clip) for batch in plan.batches for stage in plan.stages for clip in batch)


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
            alone: whether no other process works on the same run; several devices share out clips only then.
        """
        self.plan = plan
        self.journal = journal
        self.remarks: tuple[str, ...] = ()
        """What an earlier process left unfinished in the run, in words."""
        self._batches = plan.batches
        self._batch_of = {clip.name: number for number, batch in enumerate(self._batches) for clip in batch}
        self._shares: dict[tuple[str, int], list[Cell]] = {}
        for cell in every_cell(plan) if selection is None else selection:
            self._shares.setdefault((cell.stage.spec, self._batch_of[cell.clip.name]), []).append(cell)
        self._alone = alone
        self._begin_batch(0)
        self._begin_sessions()
        is_ahead = alone and len(self._batches) == 1
        self._lanes = Lanes(self._record_ahead, lanes.width(plan.threads) - 1 if is_ahead else 0)

    def _begin_sessions(self) -> None:
        self.sessions = Sessions(self.plan, self.journal, comes_back=len(self._batches) > 1)
        self.traces = Traces(self.plan, self.sessions)
        self.finished = FinishedCells(self.plan, self.traces, self.journal)
        self.traces.batch = self._batch

    def _begin_batch(self, number: int) -> None:
        """Forget what was known of the cells of another batch."""
        self._number = number
        self._batch: Sequence[Clip] = self._batches[number] if self._batches else ()
        self._work: dict[str, list[Cell]] = {}
        self._recorded: set[tuple[str, str]] = set()
        self._failed: dict[tuple[str, str], ParityError] = {}
        self._met: set[str] = set()

    def close(self) -> None:
        """Free what is open, and end what works ahead."""
        self._lanes.close()
        self.sessions.close()

    def rows(self, advance: Callable[[str], None]) -> Iterator[Row]:
        """Every selected cell, judged, batch by batch; in the last one the checks of each stage behind its last cell.

        Args:
            advance: called with what is being worked on.
        """
        kept = Retention(self.plan.keeps, self.plan.folder, self.plan.stages)
        last = dict(sorted(self._shares))
        for number in range(len(self._batches)):
            for stage in self.plan.stages:
                for cell in self._cells(stage, number):
                    advance(str(cell))
                    row = self.row(cell)
                    kept.add(row)
                    yield row
                if last.get(stage.spec) == number:
                    advance(f"{stage.spec} · all clips")
                    self.order_checks(stage)
            kept.drop()

    def row(self, cell: Cell) -> Row:
        """Record a cell, judge it, and write the row down; errors become verdicts, other cells go on.

        One that an earlier part of the run has finished is read from the journal.
        """
        if (number := self._batch_of[cell.clip.name]) != self._number:
            self._begin_batch(number)
            self.traces.batch = self._batch
        if row := self.finished.find(cell):
            return row
        self._record(cell)
        try:
            if error := self._failed.get(cell.key):
                raise error
            with self._reported():
                row = cells.judged(self.plan, cell, self.traces)
                self._shorten(cell)
        except ParityError as error:
            row = cells.of_error(self.plan, cell, error)
        self.finished.add(cell, row)
        return row

    def _shorten(self, cell: Cell) -> None:
        """Write down in short what a trace holds that may go."""
        if not self.plan.keeps.everything:
            own = self.traces.get(cell.stage.spec, cell.clip)
            parent = self.traces.get(cell.stage.parent, cell.clip) if cell.stage.parent else None
            self.journal.append(Record.of("compact", cell.key, compact.of_trace(own, parent)))

    def order_checks(self, stage: Stage) -> tuple[OrderCheck, ...]:
        """Whether a stage's results depend on what ran before; asked once its cells have run."""
        with step(Kind.STATE, "state check"):
            return order_checks.of_stage(self.plan, self.sessions, self.traces, stage, self.journal)

    def _cells(self, stage: Stage, number: int) -> list[Cell]:
        """The selected cells of a stage in a batch."""
        return self._shares.get((stage.spec, number), [])

    def _left(self, stage: Stage) -> list[Cell]:
        """Those of the present batch that no earlier part of the run has finished."""
        if stage.spec not in self._work:
            cells_of_stage = self._cells(stage, self._number)
            self._work[stage.spec] = [cell for cell in cells_of_stage if self.finished.find(cell) is None]
        return self._work[stage.spec]

    def _executor(self, stage: Stage) -> Executor:
        width = self.plan.backends.width(stage.spec) if self._alone else 1
        return SideBySide(width) if width > 1 else Serial()

    def _record(self, cell: Cell) -> None:
        if cell.key in self._recorded:
            return
        if cell.stage.spec not in self._met:
            self._begin(cell.stage)
        executor = self._executor(cell.stage)
        work = self._left(cell.stage) if executor.ahead else [cell]
        if executor.ahead:
            self._record_references(cell.stage, work)
            self.sessions.prepare(cell.stage.spec)
            self.traces.warm_up(cell.stage.spec)
        for recorded, error in executor.map(self._record_one, work):
            self._recorded.add(recorded.key)
            if error:
                self._failed[recorded.key] = error

    def _begin(self, stage: Stage) -> None:
        """Let others record the stages behind this one, and wait where another one has begun with this one."""
        self._met.add(stage.spec)
        if self._lanes.at_once:
            self.sessions.close()  # what is open here is not another process's to close
            with step(Kind.CLIPS, "recorded by a process beside this one"):
                self._lanes.wait(stage, meanwhile=self._ready_beside(stage))
            self._lanes.start(self._ready_beside(stage))

    def _ready_beside(self, stage: Stage) -> list[Stage]:
        """Stages behind this one whose root has been recorded; a root needs nobody where all languages are given."""
        specs = [each.spec for each in self.plan.stages]
        here = specs.index(stage.spec)
        languages = all(clip.language for clip in self.plan.clips)
        return [
            later
            for later in self.plan.stages[here + 1 :]
            if self._left(later) and (languages if later.root is None else later.root in specs[:here])
        ]

    def _record_ahead(self, stage: Stage) -> None:
        """Record a stage's cells, up to the first that fails, and its checks; in a process of its own."""
        self._begin_sessions()
        self._lanes = Lanes(self._record_ahead, 0)
        try:
            for cell in self._left(stage):
                self._record(cell)
                if cell.key in self._failed:
                    return
            self.order_checks(stage)
        finally:
            self.sessions.close()

    def _record_one(self, cell: Cell) -> tuple[Cell, ParityError | None]:
        try:
            with self._reported():
                self.traces.get(cell.stage.spec, cell.clip)
        except ParityError as error:
            return cell, error
        return cell, None

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
        if plan.checkpoint.path.is_relative_to(plan.options.cache):
            cache.touch(plan.checkpoint.path)
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
