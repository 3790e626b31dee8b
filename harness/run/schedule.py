"""The flow of a run, whoever drives it: cells are recorded, judged and written down; stages are checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from whisper_parity.backend.stage import Stage
from whisper_parity.run import conditions, executors
from whisper_parity.run.bench import Bench
from whisper_parity.run.cell import Cell
from whisper_parity.run.plan import Plan, remember
from whisper_parity.run.report import OrderCheck, Row
from whisper_parity.run.sessions import Sessions
from whisper_parity.run.tasks import Judged, Result, every_cell
from whisper_parity.run.traces import Traces
from whisper_parity.system import cache, serial


class Schedule:
    """A running plan: gives the judged row of each cell, and the checks of each stage."""

    def __init__(self, plan: Plan, selection: Sequence[Cell] | None = None, *, alone: bool = True) -> None:
        """Take what is to be run.

        Args:
            plan: the run.
            selection: the cells that will be asked for; None for all of them.
            alone: whether no other process works on the same run; workers and devices share out clips only then.
        """
        self.plan = plan
        self._bench = Bench(plan)
        self._alone = alone
        self._selection = every_cell(plan) if selection is None else tuple(selection)
        self._work = executors.of(self._bench, self._selection, alone=alone)
        self._stream: Iterator[Result] | None = None
        self._rows: dict[tuple[str, str], Row] = {}

    @property
    def sessions(self) -> Sessions:
        """Of this process."""
        return self._bench.sessions

    @property
    def traces(self) -> Traces:
        """Of the run, as this process reads and records them."""
        return self._bench.traces

    def close(self) -> None:
        """Free the open stage, and end who works."""
        self._work.executor.close()
        self._bench.close()

    def rows(self, advance: Callable[[str], None]) -> Iterator[Row]:
        """Every selected cell, judged, as they are done, and the checks of the stages.

        Args:
            advance: called with what is being worked on.
        """
        for result in self._work.executor.run(self._work.tasks, advance):
            if isinstance(result, Judged):
                yield self._written(result.row)

    def row(self, cell: Cell) -> Row:
        """One cell, judged; where workers are at work, as soon as one of them has done it."""
        if not self._work.at_once:
            self._bench.prepare(cell.stage, [other for other in self._selection if other.stage == cell.stage])
            return self._written(self._bench.judged(cell).row)
        while cell.key not in self._rows and self._proceed():
            pass
        if cell.key in self._rows:
            return self._rows.pop(cell.key)
        return self._written(self._bench.judged(cell).row)  # asked for once more

    def order_checks(self, stage: Stage) -> tuple[OrderCheck, ...]:
        """Whether a stage's results depend on what ran before; asked once its cells have run."""
        while self._work.at_once and self._proceed():
            pass
        return self._bench.checks(stage)

    def _proceed(self) -> bool:
        """Take the next result of who works; False where there is none any more."""
        if self._stream is None:
            self._stream = self._work.executor.run(self._work.tasks, lambda _: None)
        result = next(self._stream, None)
        if isinstance(result, Judged):
            row = self._written(result.row)
            self._rows[row.clip, row.stage] = row
        return result is not None

    def _written(self, row: Row) -> Row:
        serial.write(self.plan.folder.row(row.clip, row.stage), row)
        return row


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
