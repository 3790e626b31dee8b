"""A place of work on another machine: a bench whose files were sent there, in a folder that only it sees.

Nothing here knows how messages travel. What is made here is given back: rows, notes of the journal, bytes of traces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from whisper_parity import project
from whisper_parity.backend import settings
from whisper_parity.backend.artifact import Artifact
from whisper_parity.backend.registry import Backends
from whisper_parity.backend.stage import Stage
from whisper_parity.clips.clip import Clip
from whisper_parity.run import conditions
from whisper_parity.run.bench import Bench
from whisper_parity.run.cell import Cell
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.freight import Freight, Store
from whisper_parity.run.journal import Journal, Record
from whisper_parity.run.plan import Plan
from whisper_parity.run.tasks import Checked, Judged, Task
from whisper_parity.system import cache
from whisper_parity.system.files import replacing, share


@dataclass(frozen=True, slots=True)
class Orders:
    """What a task needs beside its cells."""

    artifacts: Mapping[str, Artifact]
    """By stage: those of the run, as the sender has them."""
    files: Mapping[str, Sequence[Freight]]
    """By stage: the files of those that are opened here, in the order of their roles."""
    clips: Mapping[str, Freight]
    """By name of the clip."""


@dataclass(frozen=True, slots=True)
class Made:
    """What one cell, or the checks of a stage, gave."""

    result: Judged | Checked
    records: tuple[Record, ...]
    """Of the journal: where the stage ran, what was checked."""


class Outpost:
    """The bench."""

    def __init__(self, plan: Plan, conditions_there: Mapping[str, Any], checkpoint: Freight) -> None:
        """Take a run of another machine.

        Args:
            plan: as the sender has it.
            conditions_there: of the run: its id, and all that decides its numbers.
            checkpoint: its file.
        """
        self._plan, self._conditions, self._checkpoint = plan, dict(conditions_there), checkpoint
        self._cache = project.cache()
        cache.prune(self._cache, plan.options.cache_bytes)  # at the start, since the end may come suddenly
        self._stack = ExitStack()
        self._stack.enter_context(cache.in_use(self._cache))
        self._store = Store(self._cache)
        self._scratch = TemporaryDirectory(prefix="parity-run-")
        self._bench: Bench | None = None
        self._cells: dict[tuple[str, str], Cell] = {}
        self._journal = Journal(RunFolder(Path(self._scratch.name) / plan.folder.name).journal)
        self._told: set[Record] = set()

    def unlike(self) -> str:
        """What decides numbers and is another here: packages, settings; "" for nothing."""
        backends = _backends(self._plan)
        here = conditions.of_plan(replace(self._plan, workshop=replace(self._plan.workshop, backends=backends)))
        return conditions.differences(self._conditions, here)

    def lacks(self, freight: Sequence[Freight]) -> list[str]:
        """Hashes of those files that have to be sent."""
        return self._store.lacks(freight)

    def take(self, freight: Freight, content: bytes) -> None:
        """A file arrives."""
        self._store.take(freight, content)

    def begin(self, task: Task, orders: Orders) -> None:
        """Get ready for a task; all of its files are here."""
        bench = self._opened()
        for spec, artifact in orders.artifacts.items():
            bench.sessions.take(self._placed(artifact, orders.files.get(spec, ())))
        paths = {name: self._store.path(freight) for name, freight in orders.clips.items()}
        cells = [replace(cell, clip=_relocated(cell.clip, paths)) for cell in task.cells]
        self._cells = {cell.key: cell for cell in cells}
        if cells:
            bench.begin(replace(task, cells=tuple(cells)))
        else:
            bench.plan = replace(bench.plan, clips=tuple(_relocated(clip, paths) for clip in bench.plan.clips))

    def put_trace(self, clip: str, stage: str, content: bytes) -> None:
        """A trace arrives that cells are judged against."""
        with replacing(self._opened().plan.folder.trace(clip, stage)) as partial:
            partial.write_bytes(content)

    def cell(self, key: tuple[str, str]) -> tuple[Made, bytes]:
        """Record a cell of the task and judge it; the trace's bytes, none where there is no trace."""
        bench = self._opened()
        made = self._made(bench.judged(self._cells[key]))
        path = bench.plan.folder.trace(*key)
        trace = path.read_bytes() if path.is_file() else b""
        self.forget([key])
        return made, trace

    def checks(self, stage: Stage) -> Made:
        """Check a stage."""
        return self._made(Checked(stage, self._opened().checks(stage)))

    def forget(self, cells: Sequence[tuple[str, str]]) -> None:
        """Traces of these (clip, stage) are not needed here any more; checks are made of those of the last batch."""
        plan = self._opened().plan
        last = {clip.name for clip in plan.batches[-1]}
        for key in cells:
            if key[0] not in last:
                plan.folder.trace(*key).unlink(missing_ok=True)

    def close(self) -> None:
        """Free what is open, and delete what was made."""
        if self._bench:
            self._bench.close()
        self._journal.close()
        self._stack.close()
        self._scratch.cleanup()

    def _opened(self) -> Bench:
        if self._bench is None:
            plan = self._local(self._plan)
            conditions.write(plan.folder, self._conditions)
            self._bench = Bench(plan, self._journal, comes_back=True)
        return self._bench

    def _made(self, result: Judged | Checked) -> Made:
        new = [record for record in self._journal.records() if record not in self._told]
        self._told.update(new)
        return Made(result, tuple(new))

    def _placed(self, artifact: Artifact, files: Sequence[Freight]) -> Artifact:
        """An artifact whose folder is here, where its files are."""
        if not files:
            return artifact
        paths = [self._store.path(freight) for freight in files]
        if all(path == freight.path for path, freight in zip(paths, files)):
            return replace(artifact, checkpoint=self._local(self._plan).checkpoint)
        folder = Path(self._scratch.name) / "artifacts" / artifact.sha256
        folder.mkdir(parents=True, exist_ok=True)
        for path, freight in zip(paths, files):
            place = folder / freight.path.name
            if not place.exists():
                share(path, place)
        return replace(artifact, folder=folder, checkpoint=self._local(self._plan).checkpoint)

    def _local(self, plan: Plan) -> Plan:
        """The run as this machine has it: its cache, its backends' settings, the checkpoint's file."""
        path = self._store.path(self._checkpoint)
        weights = replace(plan.checkpoint, path=path)
        fitted = {spec: replace(other, path=path) for spec, other in plan.checkpoints.items()}
        shop = replace(plan.workshop, backends=_backends(plan), checkpoint=weights, cache=self._cache)
        folder = RunFolder(Path(self._scratch.name) / plan.folder.name)
        options = replace(plan.options, cache=self._cache)
        return replace(plan, options=options, checkpoint=weights, checkpoints=fitted, workshop=shop, folder=folder)


def _backends(plan: Plan) -> Backends:
    """With the settings of the run over those of this machine's environment: a device has its name here."""
    return Backends(settings.laid_over(plan.project.backends, settings.of_words(plan.options.settings)))


def _relocated(clip: Clip, paths: Mapping[str, Path]) -> Clip:
    """A clip whose file lies elsewhere, where that is known."""
    return replace(clip, path=paths[clip.name]) if clip.name in paths else clip
