"""The flow of a run, whoever drives it: record a cell, then judge it; stage by stage, so that a model opens once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Protocol, TypeVar

from whisper_parity.backend.stage import Stage
from whisper_parity.errors import OutputError, ParityError, first_line
from whisper_parity.run import cell as cells
from whisper_parity.run import conditions, lanes, order_checks
from whisper_parity.run.cell import Cell
from whisper_parity.run.lanes import Lanes
from whisper_parity.run.plan import Plan, remember
from whisper_parity.run.report import OrderCheck, Row
from whisper_parity.run.sessions import Sessions
from whisper_parity.run.traces import Traces
from whisper_parity.system import cache, serial
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
    """All cells of a plan, stage by stage."""
    return tuple(Cell(stage, clip) for stage in plan.stages for clip in plan.clips)


class Schedule:
    """A running plan: gives the judged row of each cell, and the checks of each stage."""

    def __init__(self, plan: Plan, selection: Sequence[Cell] | None = None, *, alone: bool = True) -> None:
        """Take what is to be run.

        Args:
            plan: the run.
            selection: the cells that will be asked for; None for all of them.
            alone: whether no other process works on the same run; several devices share out clips only then.
        """
        self.plan = plan
        self.sessions = Sessions(plan)
        self.traces = Traces(plan, self.sessions)
        self._selection = every_cell(plan) if selection is None else tuple(selection)
        self._alone = alone
        self._recorded: set[tuple[str, str]] = set()
        self._failed: dict[tuple[str, str], ParityError] = {}
        self._met: set[str] = set()
        self._lanes = Lanes(self._record_ahead, lanes.width(plan.threads) - 1 if alone else 0)

    def close(self) -> None:
        """Free the open stage, and end what works ahead."""
        self._lanes.close()
        self.sessions.close()

    def rows(self, advance: Callable[[str], None]) -> Iterator[Row]:
        """Every selected cell, judged, and the checks of its stage behind the last one.

        Args:
            advance: called with what is being worked on.
        """
        for stage in self.plan.stages:
            work = self._cells(stage)
            for cell in work:
                advance(str(cell))
                yield self.row(cell)
            if work:
                advance(f"{stage.spec} · all clips")
                self.order_checks(stage)

    def row(self, cell: Cell) -> Row:
        """Record a cell, judge it, and write the row down; errors become verdicts, other cells go on."""
        self._record(cell)
        try:
            if error := self._failed.get(cell.key):
                raise error
            with self._reported():
                row = cells.judged(self.plan, cell, self.traces)
        except ParityError as error:
            row = cells.of_error(self.plan, cell, error)
        serial.write(self.plan.folder.row(*cell.key), row)
        return row

    def order_checks(self, stage: Stage) -> tuple[OrderCheck, ...]:
        """Whether a stage's results depend on what ran before; asked once its cells have run."""
        with step(Kind.STATE, "state check"):
            return order_checks.of_stage(self.plan, self.sessions, self.traces, stage)

    def _cells(self, stage: Stage) -> list[Cell]:
        return [cell for cell in self._selection if cell.stage == stage]

    def _executor(self, stage: Stage) -> Executor:
        width = self.plan.backends.width(stage.spec) if self._alone else 1
        return SideBySide(width) if width > 1 else Serial()

    def _record(self, cell: Cell) -> None:
        if cell.key in self._recorded:
            return
        if cell.stage.spec not in self._met:
            self._begin(cell.stage)
        executor = self._executor(cell.stage)
        work = self._cells(cell.stage) if executor.ahead else [cell]
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
            if self._cells(later) and (languages if later.root is None else later.root in specs[:here])
        ]

    def _record_ahead(self, stage: Stage) -> None:
        """Record a stage's cells, up to the first that fails, and its checks; in a process of its own."""
        self.sessions = Sessions(self.plan)
        self.traces = Traces(self.plan, self.sessions)
        self._lanes = Lanes(self._record_ahead, 0)
        try:
            for cell in self._cells(stage):
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
        UsageError: a run of this name was made under other conditions.
    """
    conditions.bind(plan)
    remember(plan)
    with cache.in_use(plan.options.cache):
        if plan.checkpoint.path.is_relative_to(plan.options.cache):
            cache.touch(plan.checkpoint.path)
        schedule = Schedule(plan, selection, alone=alone)
        try:
            yield schedule
        finally:
            schedule.close()
    cache.prune(plan.options.cache, plan.options.cache_bytes)
