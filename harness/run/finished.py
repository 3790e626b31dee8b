"""Finished cells: what the journal holds of each, and whether that still is what the run would find."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from whisper_parity.backend.stage import Edge
from whisper_parity.errors import ParityError
from whisper_parity.judge import tolerance
from whisper_parity.judge.verdict import Outcome
from whisper_parity.project import PACKAGE
from whisper_parity.run import cell as cells
from whisper_parity.run.cell import Cell
from whisper_parity.run.journal import Journal, Record
from whisper_parity.run.plan import Plan
from whisper_parity.run.report import Row
from whisper_parity.run.traces import Traces
from whisper_parity.system import serial
from whisper_parity.system.files import sources_sha256

CELL = "cell"
JUDGED = frozenset({Outcome.PASS, Outcome.DRIFT, Outcome.DIVERGED, Outcome.REFERENCE})
"""Outcomes of cells that are finished; an error may be gone by now, and such a cell runs again."""
ROOMS = ("compare", "judge", "run")
"""Of the harness: what lies between traces and a row."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A judged cell."""

    row: Row
    decided_by: str
    """Hash over all that the row depends on; "" for a cell that runs again."""
    trace_bytes: int = 0
    """Size of its trace; 0 where there is none."""
    trace_written_ns: int = 0
    """When its trace was written [ns since the epoch]."""


class FinishedCells:
    """The cells of a run that its journal holds."""

    def __init__(self, plan: Plan, traces: Traces, journal: Journal) -> None:
        self._plan, self._traces, self._journal = plan, traces, journal

    def find(self, cell: Cell) -> Row | None:
        """The row of a cell that need not run again; None for one that has to."""
        record = self._journal.find(CELL, *cell.key)
        if record is None:
            return None
        finished = record.read(Finished)
        if not finished.decided_by or finished.decided_by != self._decided_by(cell):
            return None
        if not self._has_trace(finished) or not all(map(self._stands, self._before(cell))):
            return None
        command = cells.reproduce(self._plan, cell)
        if finished.row.reproduce == command:
            return finished.row
        finished = replace(finished, row=replace(finished.row, reproduce=command))
        self._journal.append(Record.of(CELL, cell.key, finished))
        return finished.row

    def add(self, row: Row, decided_by: str) -> None:
        """Write a judged cell down, before anybody counts it.

        Args:
            row: of the cell.
            decided_by: see `decided_by`; of who has judged it.

        Raises:
            OutputError: the journal cannot be written.
        """
        key = row.clip, row.stage
        size, written_ns = _written(self._plan.folder.trace(*key))
        self._journal.append(Record.of(CELL, key, Finished(row, decided_by, size, written_ns)))

    def decided_by(self, cell: Cell, row: Row) -> str:
        """One hash over what decides a judged row; "" for one that has to run again."""
        return self._decided_by(cell) if row.verdict.outcome in JUDGED and row.label else ""

    def _before(self, cell: Cell) -> Iterator[Finished]:
        """What the cell was judged against, as far as it was a cell of this run."""
        for spec in dict.fromkeys(filter(None, (cell.stage.parent, cell.stage.root))):
            if record := self._journal.find(CELL, cell.clip.name, spec):
                yield record.read(Finished)

    def _stands(self, reference: Finished) -> bool:
        """Whether what was judged against it may stand: nothing is, against what an error has ended since."""
        return bool(reference.decided_by) and self._has_trace(reference)

    def _has_trace(self, finished: Finished) -> bool:
        """Whether the trace of a row lies there as it was; one that was not kept is no loss."""
        row = finished.row
        now = _written(self._plan.folder.trace(row.clip, row.stage))
        if now == (0, 0):
            return not self._plan.keeps.everything
        return now == (finished.trace_bytes, finished.trace_written_ns)

    def _decided_by(self, cell: Cell) -> str:
        """One hash over what decides a row; "" where that cannot be told, as without the stage's files."""
        stage, clip = cell.stage, cell.clip
        before = [spec for spec in (stage.parent, stage.root) if spec]
        try:
            parts = [[spec, self._traces.artifact_sha256(spec)] for spec in dict.fromkeys((stage.spec, *before))]
            audio = self._traces.audio_sha256(clip)
        except ParityError:
            return ""
        limits = [str(tolerance.for_edge(self._plan.tolerances, Edge(spec, stage.spec))) for spec in before]
        return serial.digest([parts, audio, clip.language, clip.text, limits, *_code()])


@cache
def _code() -> tuple[str, ...]:
    return tuple(sources_sha256(PACKAGE / room) for room in ROOMS)


def _written(path: Path) -> tuple[int, int]:
    """Size of a file [bytes] and when it was written [ns]; (0, 0) where there is none."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns
