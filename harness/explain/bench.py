"""The stages of a recorded run, opened side by side, for what its traces do not hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Any, TypeVar, cast

from whisper_parity import project
from whisper_parity.backend import build, registry
from whisper_parity.backend.artifact import Artifact
from whisper_parity.backend.contract import Probing
from whisper_parity.clips.clip import Clip
from whisper_parity.clips.features import Features
from whisper_parity.errors import ParityError, RecordError, UsageError
from whisper_parity.model import checkpoint
from whisper_parity.run import conditions
from whisper_parity.run import plan as plans
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.plan import Plan
from whisper_parity.run.sessions import Session, Sessions
from whisper_parity.run.traces import Traces
from whisper_parity.trace import file
from whisper_parity.trace.trace import Trace

T = TypeVar("T")


class Bench:
    """Opens what is asked for once, and keeps it open: two models side by side, and their probes."""

    def __init__(self, plan: Plan, stack: ExitStack) -> None:
        self.plan = plan
        self._stack = stack
        self._sessions = Sessions(plan, write_stages=False)
        self._traces = Traces(plan, self._sessions)
        self._open: dict[str, Session] = {}
        self._kept: dict[str, tuple[Any, Any]] = {}

    def trace(self, spec: str, clip: Clip) -> Trace:
        """A stage's trace, read from the run, recorded now when it is not there.

        Raises:
            RecordError: what the run recorded is of another audio, language or artifact than there is now.
            ParityError: it cannot be recorded here.
        """
        path = self.plan.folder.trace(clip.name, spec)
        if path.is_file() and (other := self._traces.changed(file.load(path), spec, clip)):
            raise RecordError(
                f"{spec} on {clip.name}: the run recorded it with another {other} than there is now",
                hint="Run it again under a new --run-id; what is recorded stays as it is",
            )
        return self._traces.get(spec, clip)

    def features(self, clip: Clip) -> Features:
        """A clip's input features."""
        return self._traces.features(clip)

    def kept(self, name: str, key: Any, make: Callable[[], T]) -> T:
        """What was made under this name for this key the last time, or what is made now; one of each name is kept."""
        if name not in self._kept or self._kept[name][0] != key:
            self._kept[name] = (key, make())
        return cast(T, self._kept[name][1])

    def artifact(self, spec: str, taps: str = "") -> Artifact:
        """A stage's artifact, or the probe of it that has these taps.

        Raises:
            ParityError: it cannot be built here.
        """
        if not taps:
            return self._sessions.artifact(spec)
        workshop = self.plan.workshop
        return build.obtain(replace(workshop, options={**workshop.options, "taps": taps}, given=None), spec)

    def session(self, spec: str) -> Session:
        """A stage's session, which stays open.

        Raises:
            ParityError: it cannot be opened here.
        """
        if spec not in self._open:
            self._open[spec] = self.open(self.artifact(spec), self._stack)
        return self._open[spec]

    def open(self, artifact: Artifact, stack: ExitStack) -> Session:
        """Open an artifact until `stack` is closed; of a fleet one device is taken.

        Raises:
            ParityError: it cannot be opened here.
        """
        return self._sessions.open(artifact, stack)

    def probe(self, artifact: Artifact) -> AbstractContextManager[Probing]:
        """Open a stage's probe; of a fleet one device is taken.

        Raises:
            UnavailableError: its backend opens no probe.
            ParityError: it cannot be opened here.
        """
        return self._sessions.probe(artifact)


@contextmanager
def expecting_probes(run: RunFolder, stages: Iterable[str]) -> Iterator[None]:
    """Let backends get ready to build probes of a run's stages, beside what comes before.

    What goes wrong is left to the bench, which reports it.
    """
    with ExitStack() as stack:
        with suppress(ParityError, OSError):
            site = project.load(project.around(run.path))
            options = plans.options_of(run, site)
            backends = registry.load(site.backends, options.settings)
            workshop = plans.workshop(options, backends, checkpoint.resolve(options.checkpoint))
            for stage in dict.fromkeys(stages):
                build.prepare_probes(workshop, stage, stack)
        yield


@contextmanager
def bench(run: RunFolder) -> Iterator[Bench]:
    """Everything that a recorded run was made with.

    Raises:
        RecordError: no run, or one whose options cannot be read.
        UsageError: the conditions of its numbers are others now.
        ParityError: its checkpoint, clips or stages are gone.
    """
    plan = plans.of_run(run, project.load(project.around(run.path)))
    if changed := conditions.changes(plan):
        raise UsageError(
            f"run {run.name} was made with another {changed}",
            hint="Explain it under the conditions that it was made under, or run again",
        )
    with ExitStack() as stack:
        yield Bench(plan, stack)
