"""Who does what next: references first, open stages preferred, what is lost given to others, nothing twice."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whisper_parity.backend.stage import Stage
from whisper_parity.clips.clip import Clip
from whisper_parity.judge.verdict import Outcome, Verdict
from whisper_parity.run.board import IN_WORK, Board, Worker
from whisper_parity.run.cell import Cell
from whisper_parity.run.report import row_without_trace
from whisper_parity.run.tasks import TRIES, Judged, Task, batched

STAGES = (
    Stage("whisper", None),
    Stage("root", "whisper"),
    Stage("script", "root", "root"),
    Stage("npu", "script", "root"),
)
"""A chain, of which the last one needs a device."""


def resource(spec: str) -> str:
    return "board" if spec == "npu" else ""


def cells(clips: int) -> list[Cell]:
    return [Cell(stage, Clip(f"c{number:03}", Path("c"))) for stage in STAGES for number in range(clips)]


def done(cell: Cell, missing: str = "", elsewhere: bool = False) -> Judged:
    row = row_without_trace(cell.clip.name, cell.stage.spec, Verdict(Outcome.PASS, "", "", ()), "")
    return Judged(row, missing=missing, elsewhere=elsewhere)


class World:
    """Workers of a random kind: slow, quick, mortal."""

    def __init__(self, clips: int, size: int, workers: int, seed: int, mortality: float) -> None:
        self.random, self.mortality = random.Random(seed), mortality
        self.board = Board(batched(STAGES, cells(clips), size), resource)
        self.crew = [*(Worker(number) for number in range(workers)), Worker(1000, "board")]
        self.tasks: dict[Worker, tuple[Task, list[Cell]]] = {}
        self.settled: Counter[tuple[str, str]] = Counter()
        self.checked: Counter[str] = Counter()
        self.numbers = 2000

    def run(self) -> None:
        while not self.board.over:
            for worker in self.crew:
                if worker not in self.tasks and (task := self.board.next(worker, self.crew)):
                    assert resource(task.stage.spec) == worker.resource
                    self.require_references(task)
                    self.tasks[worker] = task, list(task.cells)
            assert self.tasks, "nobody has anything to do"
            self.proceed(self.random.choice(list(self.tasks)))

    def require_references(self, task: Task) -> None:
        for cell in task.cells:
            assert all((cell.clip.name, need) in self.settled for need in (cell.stage.parent, cell.stage.root) if need)
        if not task.cells:
            assert sum(self.settled[key] for key in self.settled if key[1] == task.stage.spec) == self.clips
        begun = {clip for clip, _ in self.settled} | {
            cell.clip.name for t, _ in self.tasks.values() for cell in t.cells
        }
        finished = {clip for clip in begun if all((clip, stage.spec) in self.settled for stage in STAGES)}
        assert len(begun - finished) <= IN_WORK * self.size

    def proceed(self, worker: Worker) -> None:
        task, left = self.tasks[worker]
        if self.random.random() < self.mortality:
            del self.tasks[worker]
            self.crew.remove(worker)
            self.numbers += 1
            self.crew.append(Worker(self.numbers, worker.resource))
            for lost in self.board.lost(worker, "died"):
                self.board.give_up(lost, "died")
                self.settled.update(cell.key for cell in lost.cells)
                self.checked.update([] if lost.cells else [lost.stage.spec])
        elif left:
            cell = left.pop(0)
            assert self.board.came(worker, done(cell), self.crew)
            self.settled[cell.key] += 1
        else:
            self.board.finished(worker)
            del self.tasks[worker]
            self.checked.update([] if task.cells else [task.stage.spec])


@given(
    clips=st.integers(1, 40), size=st.integers(1, 9), workers=st.integers(1, 5), seed=st.integers(0, 1 << 30),
    mortality=st.sampled_from([0.0, 0.02, 0.3]),
)  # fmt: skip
def test_every_cell_is_done_once_behind_its_references_whoever_dies(clips, size, workers, seed, mortality):
    """Also the checks of each stage, behind its last cell; a bounded number of clips is in work."""
    world = World(clips, size, workers, seed, mortality)
    world.clips, world.size = clips, size
    world.run()
    assert world.settled == Counter(cell.key for cell in cells(clips))
    assert world.checked == Counter(stage.spec for stage in STAGES)


def one(stage: str, clips: int = 1) -> tuple[Board, list[Cell]]:
    """A board with the cells of one stage alone, as a selection leaves them."""
    own = [cell for cell in cells(clips) if cell.stage.spec == stage]
    return Board(batched(STAGES, own, clips), resource), own


def test_a_worker_that_dies_costs_the_cell_that_it_worked_on_a_try_and_no_other():
    """What is ahead of it stands, what is behind it was never begun."""
    board, (first, second, third) = one("root", 3)
    one_worker = Worker(1)
    board.next(one_worker, [one_worker])
    board.came(one_worker, done(first), [one_worker])
    assert board.lost(one_worker, "ended (signal 9, Killed)") == ()
    assert board.reasons(second.key) == ["worker 1 ended (signal 9, Killed)"]
    assert not board.reasons(third.key)
    left = [board.next(Worker(n), [Worker(n)]) for n in (2, 3)]
    assert {cell for task in left if task for cell in task.cells} == {second, third}


def test_a_cell_is_tried_three_times():
    """Then it is given up, and whoever is asked for what is judged against it is told why."""
    board = Board(batched(STAGES[:2], [Cell(stage, Clip("c", Path("c"))) for stage in STAGES[:2]], 1), resource)
    given_up: tuple[Task, ...] = ()
    for number in range(TRIES):
        assert not given_up
        assert board.next(Worker(number), [])
        given_up = board.lost(Worker(number), "died")
    (lost,) = given_up
    board.give_up(lost, "why")
    behind = board.next(Worker(9), [])
    assert behind is not None
    assert (behind.stage.spec, dict(behind.missing)) == ("root", {("c", "whisper"): "why"})


def test_of_a_stage_that_ends_every_worker_the_later_cells_are_tried_once():
    """Three processes for each of ten thousand clips would take all night."""
    board, _ = one("root", 6)
    deaths, number = Counter[str](), 0
    while not board.over:
        number += 1
        task = board.next(Worker(number), [])
        assert task is not None
        if task.cells:
            deaths[task.cells[0].clip.name] += 1
        for lost in board.lost(Worker(number), "died"):
            board.give_up(lost, "died")
    assert sum(deaths.values()) == 3 * TRIES + 3


def test_a_device_that_went_away_leaves_what_it_failed_on_to_others():
    """It is not given the same cell again as long as another one is there; alone, its row stands."""
    here, there = Worker(1, "board"), Worker(2, "board")
    board, (cell,) = one("npu")
    assert board.next(here, [here, there])
    assert not board.came(here, done(cell, "unplugged", elsewhere=True), [here, there])
    board.finished(here)
    assert board.next(here, [here, there]) is None
    assert board.next(there, [here, there])
    assert board.came(there, done(cell), [here, there])
    assert board.reasons(cell.key) == ["worker 1: unplugged"]
    alone, (cell,) = one("npu")
    alone.next(here, [here])
    assert alone.came(here, done(cell, "unplugged", elsewhere=True), [here])


def test_what_nobody_can_do_is_taken_off_the_board():
    """A stage without a device: its cells get a row that says so, the others go on."""
    board, own = one("npu", 4)
    assert board.next(Worker(1), [Worker(1)]) is None
    (task,) = board.unreachable([""])
    assert task.cells == tuple(own)
    board.give_up(task, "no device")
    (checks,) = board.unreachable([""])
    assert checks.cells == ()
    assert board.over


@pytest.mark.parametrize("clips", [2, 30])
def test_a_worker_stays_with_the_stage_that_it_has_open(clips):
    """One worker opens each stage about once in as many batches as are in work."""
    board = Board(batched(STAGES[:3], [c for c in cells(clips) if c.stage in STAGES[:3]], 1), resource)
    worker, stages = Worker(1), []
    while task := board.next(worker, [worker]):
        stages.append(task.stage.spec)
        for cell in task.cells:
            board.came(worker, done(cell), [worker])
        board.finished(worker)
    switches = sum(one != other for one, other in pairwise(stages))
    assert switches <= 2 + 3 * (clips / IN_WORK) + 3
