"""From the rows that a run wrote to its report."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any

from whisper_parity.backend import artifact
from whisper_parity.backend.stage import Stage
from whisper_parity.judge.verdict import Outcome, Verdict
from whisper_parity.run import order_checks, pages, placement, tally, windows
from whisper_parity.run import report as records
from whisper_parity.run.cell import Cell
from whisper_parity.run.excerpt import Excerpt
from whisper_parity.run.finished import CELL, Finished
from whisper_parity.run.journal import Journal
from whisper_parity.run.pages import Page
from whisper_parity.run.plan import Plan
from whisper_parity.run.report import SCHEMA_VERSION, OrderCheck, Report, Row, StageInfo
from whisper_parity.run.retention import Retention
from whisper_parity.run.tasks import every_cell
from whisper_parity.run.totals import Totals
from whisper_parity.system import machine, serial

NOTHING = "nothing was compared: ask for at least two stages and one clip"


def collect(plan: Plan, seconds: float, selection: Collection[tuple[str, str]] | None = None) -> Report:
    """Gather the cells that the journal holds into the report, and write that; large runs are read cell by cell.

    Args:
        plan: the run.
        seconds: how long it took.
        selection: (clip, stage) of the cells that were asked for; None for all. Others are no gap: the report is one
            of a subset.
    """
    with Journal(plan.folder.journal) as journal:
        cells, written = every_cell(plan), set(journal.keys(CELL))
        gathered = _Gathered(plan, _rows(plan, journal, written))
        stages = tuple(stage_info(journal, stage) for stage in plan.stages)
        checks = tuple(check for stage in plan.stages for check in _written_checks(journal, stage))
    misplaced = tuple(placement.misplaced(stages)) if plan.options.require_placement else ()
    outcome, exit_code, summary = _overall(gathered, _troubles(checks, misplaced))
    subset = _subset(cells, written, selection)
    rows = records.rows_of(plan.folder, gathered.pages, gathered.rows)
    report = Report(
        schema_version=SCHEMA_VERSION,
        run=plan.folder.name,
        created=artifact.now(),
        finished=all(cell.key in written for cell in cells if selection is None or cell.key in selection),
        verdict=outcome,
        exit_code=exit_code,
        summary=f"{summary} ({subset})" if subset else summary,
        checkpoint=plan.checkpoint.name,
        checkpoint_sha256=plan.checkpoint.sha256,
        checkpoint_note=plan.checkpoint.note,
        policy=plan.policy.name,
        policy_options=dict(plan.policy.options),
        tolerances=written_limits(plan.tolerances),
        machine=machine.describe(plan.project.folder, plan.backends.packages([stage.spec for stage in plan.stages])),
        stages=stages,
        rows=gathered.rows,
        seconds=seconds,
        states=checks,
        misplaced=misplaced,
        tolerance_origins={edge: dict(values) for edge, values in plan.tolerance_origins.items()},
        root=plan.root,
        clip_notes=plan.clip_notes,
        windows=windows.sentences(stages, rows, plan.backends, plan.checkpoint.dims),
        subset=subset,
        threads=plan.threads,
        totals=tuple(gathered.totals.values()),
        clips=gathered.excerpt.clips,
        pages=gathered.pages,
        excerpt=gathered.shown if gathered.pages else (),
        traces=str(plan.keeps),
    )
    serial.write(plan.folder.report, report)
    return records.opened(plan.folder, report)


class _Gathered:
    """What is counted and chosen while the rows pass by, clip by clip."""

    def __init__(self, plan: Plan, rows: Iterable[Row]) -> None:
        folder = plan.folder
        self._kept = Retention(plan.keeps, folder, plan.stages)
        self.totals: dict[str, Totals] = {}
        self.excerpt = Excerpt()
        self.worst: Outcome | None = None
        """The first of the worst outcomes."""
        passing = self._counted(rows)
        first = tuple(islice(passing, pages.INLINE + 1))
        self.pages: tuple[Page, ...] = ()
        self.rows: tuple[Row, ...] = first
        if len(first) > pages.INLINE:
            self.pages, self.rows = pages.write(folder, map(serial.line, chain(first, passing))), ()
        else:
            pages.remove(folder)
        self._kept.drop()  # under pytest nobody else does
        chosen = self.excerpt.rows()
        self.shown = chosen if self.pages else self.rows

    def _counted(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            self.totals[row.stage] = self.totals.get(row.stage, Totals(row.stage)) + tally.of_row(row)
            self.excerpt.add(row)
            self._kept.add(row)
            outcome = row.verdict.outcome
            if self.worst is None or outcome.exit_code > self.worst.exit_code:
                self.worst = outcome
            yield row

    def count(self, outcome: Outcome) -> int:
        return sum(stage.count(outcome) for stage in self.totals.values())


def _rows(plan: Plan, journal: Journal, written: Collection[tuple[str, ...]]) -> Iterator[Row]:
    """Rows in the order of the run's clips, each clip through its stages; what gave no clip comes last."""
    keys = [(clip.name, stage.spec) for clip in plan.clips for stage in plan.stages]
    for key in keys:
        if key in written and (record := journal.find(CELL, *key)):
            yield record.read(Finished).row
    for bad in plan.bad_clips:
        yield _row_of_bad_clip(bad.name, bad.error)


def _subset(
    cells: Sequence[Cell], written: Collection[tuple[str, ...]], selection: Collection[tuple[str, str]] | None
) -> str:
    """What part of a run was selected, where others were left out: "2 of 6 cells"."""
    if selection is None:
        return ""
    there = sum(cell.key in written or cell.key in selection for cell in cells)
    return f"{there} of {len(cells)} cells" if there < len(cells) else ""


def written_limits(tolerances: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Limits as the report has them: JSON has no infinity, and where any value is allowed none is made of it."""
    return {edge: {key: _written(limit) for key, limit in limits.items()} for edge, limits in tolerances.items()}


def _written(limit: Any) -> Any:
    if isinstance(limit, list):
        return [_written(bound) for bound in limit]
    return "Infinity" if limit == math.inf else limit


def _row_of_bad_clip(name: str, error: str) -> Row:
    return records.row_without_trace(name, "", Verdict(Outcome.INVALID_INPUT, "", error, ()), "")


@dataclass(frozen=True, slots=True)
class _Trouble:
    """What fails a run beside its rows."""

    outcome: Outcome
    exit_code: int
    words: str


def _troubles(states: Sequence[OrderCheck], misplaced: Sequence[str]) -> list[_Trouble]:
    """Stateful stages, checks of state that an error ended, and stages that are not where they have to be."""
    stateful = [f"{check.stage} ({check.sequence})" for check in states if check.stateful]
    cached = [check for check in states if check.failed and not check.stateful]
    ended = [check for check in states if check.error_code and not check.failed]
    troubles = [_Trouble(Outcome.DIVERGED, 1, f"stateful: {', '.join(stateful)}")] if stateful else []
    if cached:
        kinds = ", ".join(f"{check.stage} ({check.cache[0].kind or 'cause not known'})" for check in cached)
        troubles.append(_Trouble(Outcome.DIVERGED, 1, f"cache kept wrongly: {kinds}"))
    if ended:
        code = max(check.error_code for check in ended)
        names = ", ".join(dict.fromkeys(check.stage for check in ended))
        outcome = Outcome.INVALID_INPUT if code == Outcome.INVALID_INPUT.exit_code else Outcome.FAILED
        troubles.append(_Trouble(outcome, code, f"state and order not checked: {names}"))
    if misplaced:
        stages = ", ".join(dict.fromkeys(line.partition(": ")[0] for line in misplaced))
        troubles.append(_Trouble(Outcome.FAILED, 1, f"not placed as required: {stages}"))
    return troubles


def _overall(gathered: _Gathered, troubles: Sequence[_Trouble]) -> tuple[Outcome, int, str]:
    """Verdict, exit code and summary: the worst of the rows and of what stands beside them."""
    counts = {outcome: gathered.count(outcome) for outcome in Outcome}
    parts = [f"{count} {outcome.value}" for outcome, count in counts.items() if count]
    outcome = _of_rows(gathered.worst, counts)
    worst = max(troubles, key=lambda trouble: trouble.exit_code, default=None)
    if worst is None and outcome is Outcome.NOT_COMPARED and not counts[outcome]:
        return outcome, outcome.exit_code, NOTHING
    code = outcome.exit_code
    if worst is not None and worst.exit_code > code:
        outcome, code = worst.outcome, worst.exit_code
    return outcome, code, "; ".join([f"{outcome.value}: {', '.join(parts)}", *(one.words for one in troubles)])


def _of_rows(worst: Outcome | None, counts: Mapping[Outcome, int]) -> Outcome:
    if worst is not None and worst.exit_code:
        return worst
    if not counts[Outcome.PASS] + counts[Outcome.DRIFT]:
        return Outcome.NOT_COMPARED
    return Outcome.DRIFT if counts[Outcome.DRIFT] else Outcome.PASS


def _written_checks(journal: Journal, stage: Stage) -> tuple[OrderCheck, ...]:
    checked = order_checks.read(journal, stage.spec)
    return checked.checks if checked else ()


def stage_info(journal: Journal, stage: Stage) -> StageInfo:
    """What was written of a stage, with where it ran."""
    record = journal.find("stage", stage.spec)
    if record is None:
        return StageInfo(stage.spec, stage.parent, False, "not run")
    info = record.read(StageInfo)
    return replace(info, placement=placement.of_stage(journal, stage.spec, info.sha256))
