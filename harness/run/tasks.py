"""What a run hands out: cells of one stage at a time, so that a model opens once, and what comes back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from whisper_parity.backend.stage import Stage
from whisper_parity.run.batches import batches
from whisper_parity.run.cell import Cell
from whisper_parity.run.compact import Compact
from whisper_parity.run.plan import Plan
from whisper_parity.run.report import OrderCheck, Row

TRIES = 3
"""How often a cell is tried, where what ran it went away: a device, a process, a machine."""


@dataclass(frozen=True, slots=True)
class Task:
    """Cells of one stage, worked off in their order; without cells, the checks of a stage behind all of them."""

    stage: Stage
    cells: tuple[Cell, ...]
    batch: int = 0
    """Tasks of a batch have the same clips: those of a later stage are judged against those of an earlier one."""
    missing: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """By (clip, stage): why a reference has no trace; whoever works on this does not try that again."""

    def __str__(self) -> str:
        """As progress shows it."""
        return str(self.cells[0]) if self.cells else f"{self.stage.spec} · all clips"


@dataclass(frozen=True, slots=True)
class Judged:
    """A cell that is done."""

    row: Row
    decided_by: str = ""
    """One hash over what decides the row; "" for one that has to run again."""
    missing: str = ""
    """Why it has no trace; "" where it has one."""
    short: Compact | None = None
    """What stays of its trace where that may go."""
    elsewhere: bool = False
    """Whether another worker may have more luck: what ran it went away."""


@dataclass(frozen=True, slots=True)
class Checked:
    """The checks of a stage."""

    stage: Stage
    checks: tuple[OrderCheck, ...]


Result = Judged | Checked


def batched(stages: Sequence[Stage], cells: Sequence[Cell], most: int) -> Iterator[Task]:
    """Batch by batch of clips, and in a batch stage by stage; the checks of a stage behind its last cell.

    Args:
        stages: in their order.
        cells: those that are asked for.
        most: clips of a batch.
    """
    by_clip: dict[str, list[Cell]] = {}
    for cell in cells:
        by_clip.setdefault(cell.clip.name, []).append(cell)
    last = {cell.stage: cell for clip in by_clip.values() for cell in clip}
    for number, batch in enumerate(batches(list(by_clip.values()), most)):
        for stage in stages:
            work = tuple(cell for clip in batch for cell in clip if cell.stage == stage)
            if work:
                yield Task(stage, work, number)
            if last.get(stage) in work:
                yield Task(stage, (), number)


def every_cell(plan: Plan) -> tuple[Cell, ...]:
    """All cells of a plan in the order in which they run: batch by batch, stage by stage."""
    return tuple(Cell(stage, clip) for batch in plan.batches for stage in plan.stages for clip in batch)
