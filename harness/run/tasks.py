"""What a run hands out: cells of one stage at a time, so that a model opens once, and what comes back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from whisper_parity.backend.stage import Stage
from whisper_parity.run.cell import Cell
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
    missing: str = ""
    """Why it has no trace; "" where it has one."""
    elsewhere: bool = False
    """Whether another worker may have more luck: what ran it went away."""


@dataclass(frozen=True, slots=True)
class Checked:
    """The checks of a stage."""

    stage: Stage
    checks: tuple[OrderCheck, ...]


Result = Judged | Checked


def whole_stages(stages: Sequence[Stage], cells: Sequence[Cell]) -> tuple[Task, ...]:
    """Stage by stage, each with its checks behind it."""
    return tuple(task for stage in stages for task in _of_stage(stage, cells))


def _of_stage(stage: Stage, cells: Sequence[Cell]) -> Iterator[Task]:
    own = tuple(cell for cell in cells if cell.stage == stage)
    if own:
        yield Task(stage, own)
        yield Task(stage, ())


def batched(stages: Sequence[Stage], cells: Sequence[Cell], size: int) -> tuple[Task, ...]:
    """The same in batches of `size` clips, all stages of a batch before the next one; checks at the end."""
    by_clip: dict[str, list[Cell]] = {}
    for cell in cells:
        by_clip.setdefault(cell.clip.name, []).append(cell)
    clips = list(by_clip.values())
    tasks = []
    for number, start in enumerate(range(0, len(clips), size)):
        batch = [cell for clip in clips[start : start + size] for cell in clip]
        own = {stage: tuple(cell for cell in batch if cell.stage == stage) for stage in stages}
        tasks += [Task(stage, work, number) for stage, work in own.items() if work]
    asked = {cell.stage for cell in cells}
    return (*tasks, *(Task(stage, ()) for stage in stages if stage in asked))


def every_cell(plan: Plan) -> tuple[Cell, ...]:
    """All cells of a plan, stage by stage."""
    return tuple(Cell(stage, clip) for stage in plan.stages for clip in plan.clips)
