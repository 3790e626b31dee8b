"""The stages of a recorded run, opened side by side to measure what its traces lack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, TypeVar, cast

from whisper_parity import project
from whisper_parity.backend import build, taps
from whisper_parity.backend.artifact import Artifact
from whisper_parity.backend.contract import Probing
from whisper_parity.backend.facets import Inspectable
from whisper_parity.clips.clip import Clip
from whisper_parity.clips.features import Features
from whisper_parity.errors import RecordError, UsageError
from whisper_parity.run import conditions
from whisper_parity.run import plan as plans
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.plan import Plan
from whisper_parity.run.sessions import Session, Sessions
from whisper_parity.run.traces import Traces
from whisper_parity.system import cache, inputs
from whisper_parity.trace import file
from whisper_parity.trace.trace import Trace
from whisper_parity.weights.result import LookUp

T = TypeVar("T")


class Bench:
    """Opens each stage and probe once and keeps it open, so that two models run side by side."""

    def __init__(self, plan: Plan, stack: ExitStack) -> None:
        self.plan = plan
        self._stack = stack
        self._sessions = Sessions(plan)
        self._traces = Traces(plan, self._sessions)
        self._open: dict[str, Session] = {}
        self._kept: dict[str, tuple[Any, Any]] = {}

    def trace(self, spec: str, clip: Clip) -> Trace:
        """A stage's trace, read from the run, or recorded now when missing.

        Raises:
            RecordError: the recorded trace is of another audio, language or artifact than the present one.
            ParityError: it cannot be recorded here.
        """
        path = self.plan.folder.trace(clip.name, spec)
        if inputs.is_there(path) and (other := self._traces.changed(file.load(path), spec, clip)):
            raise RecordError(
                f"{spec} on {clip.name}: the run recorded it with another {other} than the present one",
                hint="Run it again under a new --run-id; recorded traces are never overwritten",
            )
        return self._traces.get(spec, clip)

    def features(self, clip: Clip, spec: str) -> Features:
        """A clip's input features, in windows of a stage's length."""
        return self._traces.features(clip, spec)

    def kept(self, name: str, key: Any, make: Callable[[], T]) -> T:
        """The value last made under `name` when it was for the same key, else a new one; one per name is kept."""
        if name not in self._kept or self._kept[name][0] != key:
            self._kept[name] = (key, make())
        return cast(T, self._kept[name][1])

    def artifact(self, spec: str, taps: str = "") -> Artifact:
        """A stage's artifact, or its probe with these taps.

        Raises:
            ParityError: it cannot be built here.
        """
        if not taps:
            return self._sessions.artifact(spec)
        workshop = self.plan.workshop_of(spec)
        tapped = replace(workshop, options={**workshop.options, "taps": taps})
        return build.obtain(tapped, spec, front=self.plan.stage(spec).parent)

    def weights(self, spec: str) -> LookUp | None:
        """What a stage's given files hold of the checkpoint; None for files that were built here."""
        self.artifact(spec)
        return self._sessions.weights(spec)

    def session(self, spec: str) -> Session:
        """A stage's session, which stays open.

        Raises:
            ParityError: it cannot be opened here.
        """
        if spec not in self._open:
            self._open[spec] = self.open(self.artifact(spec), self._stack)
        return self._open[spec]

    def open(self, artifact: Artifact, stack: ExitStack) -> Session:
        """Open an artifact until `stack` is closed; on a fleet this takes one device.

        Raises:
            ParityError: it cannot be opened here.
        """
        return self._sessions.open(artifact, stack)

    @contextmanager
    def probe(self, artifact: Artifact) -> Iterator[Probing]:
        """A stage's probe: by its open session where that shows what is inside, else opened; of a fleet one device.

        Raises:
            UnavailableError: its backend cannot open probes, or the files cannot be looked into.
            ParityError: it cannot be opened here.
        """
        session, wanted = self._open.get(artifact.stage), taps.of_options(artifact.options, artifact.checkpoint.dims)
        is_same = session is not None and artifact.sha256 == self.artifact(artifact.stage).sha256
        if is_same and wanted is not None and isinstance(session, Inspectable):
            yield session.inside(wanted)
            return
        with self._sessions.probe(artifact) as probe:
            yield probe


@contextmanager
def bench(run: RunFolder) -> Iterator[Bench]:
    """Reopen a recorded run under the conditions that it was made under.

    Raises:
        RecordError: no such run, or its options cannot be read.
        UsageError: the conditions of its numbers have changed.
        ParityError: its checkpoint, clips or stages are gone.
    """
    plan = plans.of_run(run, project.load(project.around(run.path)))
    if changed := conditions.changes(plan):
        raise UsageError(
            f"run {run.name} was made under other conditions: {changed}",
            hint="Restore the conditions of the run, or run again",
        )
    with cache.in_use(plan.options.cache), ExitStack() as stack:
        yield Bench(plan, stack)
