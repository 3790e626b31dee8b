"""Traces that may go: rows come in any order, and their clips are let go in the order of the run."""

from __future__ import annotations

from collections.abc import Sequence

from whisper_parity.run.cell import Cell
from whisper_parity.run.plan import Plan
from whisper_parity.run.report import Row
from whisper_parity.run.retention import Retention


class Release:
    """Tells a run's retention of each clip that is through all stages, batch by batch.

    The traces of the last batch stay until the end: the checks of state and order are made of them.
    """

    def __init__(self, plan: Plan, selection: Sequence[Cell]) -> None:
        self._kept = Retention(plan.keeps, plan.folder, plan.stages)
        self._stages = [stage.spec for stage in plan.stages]
        self._missing: dict[str, set[str]] = {}
        for cell in selection:
            self._missing.setdefault(cell.clip.name, set()).add(cell.stage.spec)
        self._batches = [[clip.name for clip in batch if clip.name in self._missing] for batch in plan.batches]
        self._rows: dict[str, dict[str, Row]] = {}

    def add(self, row: Row) -> None:
        """A row of the selection is written down."""
        self._missing[row.clip].discard(row.stage)
        self._rows.setdefault(row.clip, {})[row.stage] = row
        while len(self._batches) > 1 and not any(self._missing[clip] for clip in self._batches[0]):
            self._let_go(self._batches.pop(0))

    def end(self) -> None:
        """Nothing needs a trace any more."""
        for batch in self._batches:
            self._let_go(batch)
        self._batches.clear()

    def _let_go(self, batch: Sequence[str]) -> None:
        for clip in batch:
            rows = self._rows.pop(clip, {})
            for spec in self._stages:
                if spec in rows:
                    self._kept.add(rows[spec])
        self._kept.drop()
