"""Who works off a run: this process, processes beside it, or a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from whisper_parity.errors import UsageError
from whisper_parity.run import tasks
from whisper_parity.run.batches import BATCH
from whisper_parity.run.bench import Bench
from whisper_parity.run.cell import Cell
from whisper_parity.run.crew import Crew
from whisper_parity.run.executor import Executor, Serial
from whisper_parity.run.journal import Journal
from whisper_parity.run.plan import Plan
from whisper_parity.run.tasks import Task
from whisper_parity.run.worker_processes import Processes, forks
from whisper_parity.system import cores

CLIPS_A_TASK = 8
"""At most: what a worker does before it is asked whether to go on with the stage that it has open."""

AT_ONCE = 8
"""Tasks of a stage that few clips are cut into on a cluster, whose size is not known ahead."""


@dataclass(frozen=True, slots=True)
class Work:
    """What there is to do, and who does it."""

    executor: Executor
    tasks: tuple[Task, ...]
    at_once: bool
    """Whether several are at work."""


def of(bench: Bench, journal: Journal, selection: Sequence[Cell], *, alone: bool) -> Work:
    """The work of a run.

    Args:
        bench: of this process.
        journal: of the run.
        selection: the cells that are asked for.
        alone: whether no other process works on the same run.

    Raises:
        UsageError: several processes ask for a cluster.
    """
    plan = bench.plan
    if plan.options.ray:
        return _on_cluster(bench, journal, selection, alone=alone)
    width = workers(plan) if alone else 1
    if width < 2 or len(selection) < 2:
        return Work(Serial(bench), tuple(tasks.batched(plan.stages, selection, BATCH)), False)
    clips = len({cell.clip.name for cell in selection})
    pieces = tuple(tasks.batched(plan.stages, selection, min(CLIPS_A_TASK, max(1, clips // (2 * width)))))
    resources = bound(plan, selection)
    return Work(Crew(bench, lambda: Processes(plan, min(width, len(selection)), resources)), pieces, True)


def _on_cluster(bench: Bench, journal: Journal, selection: Sequence[Cell], *, alone: bool) -> Work:
    plan, address = bench.plan, str(bench.plan.options.ray)
    if not alone:
        raise UsageError("a cluster is used by one process", hint="Leave out -n of pytest-xdist, or --parity-ray")
    from whisper_parity.run.ray_cluster import Cluster

    clips = len({cell.clip.name for cell in selection})
    pieces = tuple(tasks.batched(plan.stages, selection, min(CLIPS_A_TASK, max(1, clips // AT_ONCE))))
    resources = bound(plan, selection)
    return Work(Crew(bench, lambda: Cluster(bench, journal, address, plan.options.workers, resources)), pieces, True)


def workers(plan: Plan) -> int:
    """How many: as asked for; else one for each core where a model has one thread, so that a worker costs little."""
    return plan.options.workers or (cores.available() if forks(plan.threads) else 1)


def bound(plan: Plan, selection: Sequence[Cell]) -> tuple[str, ...]:
    """What stages among the cells need that has room for one process: their devices."""
    specs = dict.fromkeys(cell.stage.spec for cell in selection)
    return tuple(dict.fromkeys(filter(None, map(plan.backends.resource, specs))))
